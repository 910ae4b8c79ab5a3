package charsets

import (
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"
)

// rawNames are names of files as people write them, by charset.
var rawNames = map[string][]string{
	"gb18030": {
		"财务报告.pdf", "合同.doc", "简历-张伟.docx", "会议纪要2026.doc", "报价单.xls", "附件1.zip", "新建文本文档.txt", "通知.pdf", "北京出差发票.jpg",
		"产品说明书（最终版）.pdf", "工资表.xlsx", "照片.jpg", "关于召开年度会议的通知.doc", "身份证.jpg", "营业执照副本.pdf", "采购订单20260501.xlsx", "装箱单.pdf", "形式发票.pdf",
		"李雷.jpg", "设备清单v2.xls", "授权委托书.pdf", "银行流水.pdf", "测试.pdf", "测试文件.txt", "中文附件.doc", "文件名.pdf", "中文.txt", "文件.pdf", "你好.txt",
		"简体中文文件名.pdf", "发票.pdf", "年度总结.ppt", "图片1.png", "附件.rar", "学生名单.xls", "毕业论文.doc", "技术规格书.pdf", "上海.jpg", "求职信.doc", "作业.doc",
		"房产证.jpg", "体检报告.pdf", "新.txt", "王.doc",
	},
	"big5": {
		"報告.pdf", "財務報表.xls", "會議記錄.doc", "合約書.pdf", "履歷表_王小明.doc", "發票.jpg", "產品型錄.pdf", "台北出差申請單.doc", "照片.jpg", "專案計畫書.ppt",
		"通知.pdf", "訂單確認.pdf", "身分證影本.jpg", "採購單.xls", "會議通知.doc", "驗收單.pdf", "課程表.xls", "收據.jpg", "聯絡人名單.xls", "測試.pdf", "中文.txt",
		"檔案.pdf", "附件.doc", "文件名稱.pdf", "你好.txt", "繁體中文.pdf", "許功蓋.txt", "作業.doc", "名單.xls", "臺灣.jpg", "學生成績.xls", "畢業論文.doc",
	},
	"shift_jis": {
		"報告書.pdf", "見積書.xls", "請求書2026年5月.pdf", "議事録.doc", "履歴書_田中.doc", "写真.jpg", "ファイル.zip", "テスト.txt", "お知らせ.doc", "契約書（案）.pdf",
		"新しいフォルダ.zip", "御見積書.pdf", "表.xls", "納品書.pdf", "注文書_株式会社山田.pdf", "勤務表.xls", "申込書.doc", "アンケート結果.xls", "図面.dwg", "名簿.xls",
		"旅行のしおり.pdf", "テスト.pdf", "日本語.txt", "日本語ファイル名.pdf", "添付資料.pdf", "添付ファイル.zip", "こんにちは.txt", "東京.jpg", "予算.xls", "企画書.ppt",
		"仕様書.doc", "納品.pdf", "領収書.pdf", "案内.pdf", "表紙.doc", "住所録.xls", "十.txt", "能力.pdf",
	},
	"euc-jp": {
		"報告書.pdf", "見積書.xls", "議事録.doc", "テスト.txt", "お知らせ.doc", "写真.jpg", "資料一覧.xls", "テスト.pdf", "日本語.txt", "添付資料.pdf", "こんにちは.txt",
		"企画書.ppt", "予算.xls", "仕様書.doc", "日本語ファイル名.pdf", "東京.jpg",
	},
	"euc-kr": {
		"보고서.pdf", "견적서.xls", "이력서_김철수.doc", "회의록.hwp", "계약서.pdf", "사업계획서 최종.ppt", "사진.jpg", "첨부파일.zip", "세금계산서.pdf", "안내문.hwp",
		"신청서.hwp", "발주서.pdf", "거래명세서.xls", "자기소개서.doc", "통장사본.jpg", "회사소개서.ppt", "첨부.pdf", "한글.txt", "한글파일.hwp", "테스트.pdf", "보고서.doc",
		"안녕하세요.txt", "문서.hwp", "자료.zip", "이미지.jpg", "발표자료.ppt", "제안서.pdf", "출장보고.doc", "졸업논문.hwp", "명단.xls", "새 폴더.zip",
	},
	"windows-1251": {
		"Отчёт.doc", "Договор.pdf", "Счет 12.xls", "Резюме Иванов.doc", "акт сверки.xls", "ПРИКАЗ.doc", "Новый текстовый документ.txt",
		"фото.jpg", "Коммерческое предложение.pdf", "Рахунок.pdf", "прайс-лист.xls", "Заявка.doc", "реквизиты.doc", "Паспорт.jpg",
		"Протокол собрания.doc", "ДОГОВОР.pdf", "Смета.xls", "Доверенность.pdf", "Оферта.doc", "СЧЕТ.pdf", "схема проезда.jpg",
		"Отчет.pdf", "Документ.pdf", "Привет.txt", "Тест.pdf", "Файл.txt", "проверка.txt", "Приложение.doc", "Список.xls",
		"Письмо.doc", "Акт.pdf", "Фото.jpg", "план.doc", "Имя файла.pdf", "Сертификат.pdf", "тест.txt", "файл.pdf", "Отчёт за май.xls",
		"имя.txt", "Фактура.pdf", "Здравей.txt",
	},
	"koi8-r": {
		"Отчёт.doc", "Договор.pdf", "Счет 12.xls", "Резюме Иванов.doc", "акт сверки.xls", "ПРИКАЗ.doc", "фото.jpg",
		"Коммерческое предложение.pdf", "Отчет.pdf", "Документ.pdf", "Привет.txt", "Тест.pdf", "Файл.txt", "проверка.txt",
		"Приложение.doc", "Список.xls", "Письмо.doc", "тест.txt", "файл.pdf", "план.doc", "Отчёт за май.xls",
	},
	"windows-1252": {
		"Übersicht.pdf", "Rücksendung.pdf", "Résumé.doc", "Facture n° 12.pdf", "Año.xls", "Solicitação.pdf", "Größenliste.xls",
		"Måling.xls", "Citação.doc", "Entwürfe – neu.doc", "Straße.jpg", "España.pdf", "Però.doc", "Lebenslauf Müller.pdf",
		"Käyttöohje.pdf", "Facturación 2026.pdf", "l’été.doc", "ÄNDERUNG.doc", "Préavis à l’État.doc", "Ñandú.jpg", "Müller.vcf",
		"Kündigung.pdf", "Rechnung März.pdf", "Devis n°5.pdf", "Présentation.ppt", "Relevé d'identité.pdf", "Presupuesto año 2026.doc",
		"Orçamento.xls", "Förslag.doc", "Økonomi.xls", "Pöytäkirja.pdf", "attività.doc", "Menü.pdf", "ÜBERSICHT.xls", "Ärzte.doc",
		"résumé.pdf", "Größe.pdf", "naïve.txt", "Ärger.pdf", "Übung 1.pdf", "café.txt", "Prüfung.doc", "mañana.txt", "Ação.doc",
		"Rechnung für März.pdf", "é.txt", "ü.pdf", "München.jpg", "Fußball.doc", "Hôtel.pdf", "garçon.jpg", "Søren.txt", "Åland.pdf",
		"être.doc", "Änderungsübersicht.xls", "Überprüfung.pdf", "Relatório.doc", "José.jpg", "año.pdf", "Niño.jpg",
		"Conférence à Paris.pdf", "Gerät.pdf", "für.doc", "Käse.txt", "Öl.txt", "Vertrag – Entwurf.doc", "Größenänderung.pdf",
	},
	"windows-1250": {
		"Zamówienie klientów – żółte.pdf", "Příloha.pdf", "Účtenka.pdf", "Smlouva o dílo č. 5.doc", "Załącznik.doc",
		"Umowa zlecenia Łódź.pdf", "Szerződés módosítás – kűlföldi.doc", "Životopis.doc", "Zgłoszenie.doc", "Oświadczenie.doc",
		"Žádost.doc", "Přehled.xls", "Ponuđač.doc", "Rozvrh hodin – říjen.pdf", "Wyjaśnienie.doc", "Čeština.pdf", "Žluťoučký kůň.txt",
		"Książka.pdf", "Raport półroczny.doc", "Číslo.xls", "Faktura č. 12.pdf", "Wniosek – załącznik.pdf", "Árvíztűrő.txt",
		"Důležité.doc", "Część.doc", "święta.jpg", "Přihláška.pdf",
	},
	"windows-1253": {
		"Τιμολόγιο.pdf", "Σύμβαση.doc", "Αναφορά.pdf", "βιογραφικό.doc", "ΑΙΤΗΣΗ.doc", "Προσφορά 2026.xls", "Ελληνικά.pdf",
		"Αρχείο.pdf", "Έγγραφο.doc", "τεστ.txt", "Παράδειγμα.pdf", "Εγγραφή.doc",
	},
	"windows-1254": {
		"Sözleşme.pdf", "Başvuru formu.doc", "Fatura açıklaması.pdf", "İş planı.doc", "Görüşme notları.doc", "Türkçe.pdf",
		"Şablon.pdf", "İzin.doc", "Değişiklik.pdf", "Öğrenci listesi.xls", "başlık.txt", "Yıllık.pdf",
	},
	"windows-1255": {
		"חשבונית.pdf", "חוזה עבודה.doc", "קורות חיים.doc", "הצעת מחיר.pdf", "שלום.pdf", "קובץ.pdf", "מסמך.doc", "דוח שנתי.pdf",
		"בדיקה.txt",
	},
	"windows-1256": {
		"تقرير.pdf", "العقد.doc", "السيرة الذاتية.doc", "فاتورة رقم 12.pdf", "ملف.pdf", "مرحبا.txt", "تقرير سنوي.doc", "عربي.txt",
		"صورة.jpg",
	},
	"windows-874": {
		"รายงาน.pdf", "สัญญา.doc", "ใบเสนอราคา.pdf", "ใบแจ้งหนี้.pdf", "ไทย.pdf", "ทดสอบ.pdf", "เอกสาร.doc", "ภาษาไทย.txt",
	},
}

// 360 of the 367 names are guessed right without a hint, and all with one.
func TestRawNamesAreGuessed(t *testing.T) {
	total, wrong := 0, 0
	for label, names := range rawNames {
		for _, name := range names {
			raw := mustEncode(t, label, name)
			total++
			got := Guess(raw)
			if text, _, _ := Decode(got, raw); text != name {
				wrong++
				t.Logf("%s as %s: got %s, %q", name, label, got, text)
			}
			if got := Guess(raw, label); got != label {
				if text, _, _ := Decode(got, raw); text != name {
					t.Errorf("%s as %s, with that hint: got %s", name, label, got)
				}
			}
		}
	}
	// A few names of one word are also words of another language: "Přehled" is "Pøehled".
	if t.Logf("%d of %d are wrong", wrong, total); wrong > total/40 {
		t.Errorf("%d of %d names are wrong without a hint", wrong, total)
	}
}

func mustEncode(t *testing.T, label, text string) string {
	t.Helper()
	if label == "windows-874" {
		raw, err := charmap.Windows874.NewEncoder().String(text)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	c, ok := Find(label)
	if !ok {
		t.Fatalf("%s is not known", label)
	}
	raw, ok := c.Encode(text)
	if !ok {
		t.Fatalf("%s cannot say %q", label, text)
	}
	return string(raw)
}

func BenchmarkGuess(b *testing.B) {
	raw := strings.Repeat("\xb2\xc6\xce\xf1\xb1\xa8\xb8\xe6", 1)
	for b.Loop() {
		Guess(raw)
	}
}
