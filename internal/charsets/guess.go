package charsets

import (
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// maxGuess is how many bytes of a text are looked at. The cost of each is that of thirty decoders.
const maxGuess = 512

// Guess returns the charset of bytes that are not UTF-8, by what they would say in each of the
// charsets in which people write file names. hints are charsets that the mail names elsewhere, and
// may have any labels.
//
// Each language is a model that gives a probability to each character; the most probable text wins.
// Libraries that detect charsets need a page of text, and file names have five to twenty
// characters. A name of a single word in Hebrew, Arabic or Thai may be taken for Cyrillic. The
// result is windows-1252 if nothing else is more probable.
func Guess(s string, hints ...string) string {
	s = s[:min(len(s), maxGuess)]
	named := map[string]bool{}
	for _, hint := range hints {
		named[family(hint)] = true
		if Name(hint) == "iso-2022-jp" {
			named["euc-jp"] = true // Japanese that is raw on Unix
		}
		if isUncommon(hint) && hasLettersOnly(hint, s) {
			return Name(hint)
		}
	}
	best, most := "windows-1252", math.Inf(-1)
	for _, c := range candidates {
		p := c.rate(s)
		if named[c.label] {
			p += c.hint
		}
		if p > most {
			best, most = c.label, p
		}
	}
	for _, hint := range hints {
		if family(hint) == best && hasLettersOnly(hint, s) {
			return Name(hint)
		}
	}
	return best
}

// family returns the label of the candidate that has the characters of the charset.
func family(label string) string {
	name := Name(label)
	if f, ok := families[name]; ok {
		return f
	}
	return name
}

var families = map[string]string{
	"iso-8859-1": "windows-1252", "iso-8859-15": "windows-1252", "us-ascii": "windows-1252",
	"koi8-r": "koi8-u", "iso-8859-9": "windows-1254", "iso-8859-7": "windows-1253", "iso-8859-8": "windows-1255",
	"iso-8859-11": "windows-874", "iso-8859-13": "windows-1257", "gb2312": "gb18030", "gbk": "gb18030", "hz-gb-2312": "gb18030",
	"big5-hkscs": "big5", "windows-31j": "shift_jis", "iso-2022-jp": "shift_jis", "windows-949": "euc-kr", "iso-2022-kr": "euc-kr",
}

// OfLanguage returns the charset of 8-bit text in the language of a tag (RFC 5646) such as "ja" or
// "zh-TW", or "" if that is not known, or is windows-1252.
func OfLanguage(tag string) string {
	tag = strings.ToLower(strings.TrimSpace(tag))
	for _, t := range []string{tag, tag[:min(len(tag), 2)]} {
		if charset, ok := languages[t]; ok {
			return charset
		}
	}
	return ""
}

var languages = map[string]string{
	"ja": "shift_jis", "ko": "euc-kr", "zh": "gb18030", "zh-tw": "big5", "zh-hk": "big5", "zh-mo": "big5", "zh-hant": "big5",
	"ru": "windows-1251", "uk": "windows-1251", "be": "windows-1251", "bg": "windows-1251", "mk": "windows-1251", "kk": "windows-1251",
	"pl": "windows-1250", "cs": "windows-1250", "sk": "windows-1250", "sl": "windows-1250", "hr": "windows-1250", "hu": "windows-1250", "ro": "windows-1250",
	"el": "windows-1253", "tr": "windows-1254", "az": "windows-1254", "he": "windows-1255", "ar": "windows-1256", "fa": "windows-1256", "ur": "windows-1256",
	"lt": "windows-1257", "lv": "windows-1257", "et": "windows-1257", "th": "windows-874",
}

// isUncommon reports whether a charset is known, and not among the candidates.
func isUncommon(label string) bool {
	_, ok := Find(label)
	return ok && !slices.ContainsFunc(candidates, func(c candidate) bool { return c.label == family(label) })
}

// hasLettersOnly reports whether all bytes beyond ASCII are letters in a charset.
func hasLettersOnly(label, s string) bool {
	text, _, clean := Decode(label, s)
	return clean && !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf && !unicode.IsLetter(r) })
}

// A candidate is a charset with what is written in it. Probabilities are natural logarithms.
type candidate struct {
	label string
	hint  float64 // how much more probable it is if the mail names the charset
	rate  func(s string) float64
}

var candidates = []candidate{
	{"windows-1252", 3, letters(charmap.Windows1252, 0, "äüößÄÖÜ", "éèàêçÉôâîùûÀÇÈëïœ", "áéíóñúüÁÉÓÑ", "ãçáéíóõêâúÇÃÉ", "åäöÅÄÖé", "øåæØÅÆé", "àèéìòù")},
	{"windows-1252", 3, letters(charmap.Windows1252, -3, "ðþæöáéíóúýÞÓÚ")}, // Icelandic
	{"windows-1250", 6, letters(charmap.Windows1250, -1.5, "łąęóżśćńźŁŻŚÓĄ", "íáéěýšřčžůúťďňóŠČŘŽÚ", "áéóöőíüúűÁÉÖŐ", "čšžćđČŠŽĆ", "íáéľčšžýúťôňäČŠŽ", "ăâîşţÎŞ")},
	{"iso-8859-2", 6, letters(charmap.ISO8859_2, -2.5, "łąęóżśćńźŁŻŚÓĄ", "íáéěýšřčžůúťďňóŠČŘŽÚ", "áéóöőíüúűÁÉÖŐ", "čšžćđČŠŽĆ")},
	{"windows-1254", 6, letters(charmap.Windows1254, -1.5, "ışüğçöİŞÜĞÇÖâ")},
	{"windows-1257", 8, letters(charmap.Windows1257, -2.5, "ėšžųįąęūčŠŽĖ", "āīēšūņļģķčžĀĪ", "õäöüšž")},
	{"windows-1251", 8, alphabet(charmap.Windows1251, -0.5, "оеаинтсрвлкмдпуяфыьгзбчйхжшюцщэъё", "оанитіреслвкмудпяфзьгйбчцхжїюєшщ")},
	{"koi8-u", 8, alphabet(charmap.KOI8U, -1.5, "оеаинтсрвлкмдпуяфыьгзбчйхжшюцщэъё", "оанитіреслвкмудпяфзьгйбчцхжїюєшщ")},
	{"windows-1253", 8, alphabet(charmap.Windows1253, -2, "αοιετσνρηπκυμλίόςγωάδέχύθφήώβξζψϊϋΐΰ")},
	{"windows-1255", 8, alphabet(charmap.Windows1255, -2.5, "יוהלארתבמשנםעדחקןפסגצטכזךףץ")},
	{"windows-1256", 8, alphabet(charmap.Windows1256, -2, "اليمونرتبعدسةفهكقحجشطصخذغضزثىءأإآئؤظپچگ")},
	{"windows-874", 8, alphabet(charmap.Windows874, -2, "านรอกเงมยลวดทสต่ะปัิีบคห้แจพช์ขใไ็ืุูำโผถธศษณภซญฐฎ")},
	{"gb18030", 12, simplified.rate},
	{"big5", 12, traditional.rate},
	{"shift_jis", 12, shiftJIS.rate},
	{"euc-jp", 12, eucJP.rate},
	{"euc-kr", 12, hangul.rate},
}

const (
	ascii   = -3.0  // any ASCII character, in every language
	strange = -12.0 // a character that the language does not have
)

// alphabet returns the rating of a charset of one byte for each letter, all of them beyond ASCII.
// The letters are in the order of their frequency in each language.
func alphabet(cs *charmap.Charmap, prior float64, languages ...string) func(string) float64 {
	return rating(cs, prior, languages, func(rank int) float64 { return -2.2 - float64(rank)/9 }, false)
}

// letters returns the rating of a charset that adds letters to those of ASCII, with the added
// letters of each language.
func letters(cs *charmap.Charmap, prior float64, languages ...string) func(string) float64 {
	return rating(cs, prior, languages, func(rank int) float64 { return -3.7 - float64(rank)/6 }, true)
}

// rating returns the rating of a text in a charset: that of its most probable language.
func rating(cs *charmap.Charmap, prior float64, languages []string, frequency func(rank int) float64, latin bool) func(string) float64 {
	tables := make([]map[rune]float64, len(languages))
	for i, letters := range languages {
		tables[i] = map[rune]float64{}
		for rank, r := range []rune(letters) {
			tables[i][r] = frequency(rank)
		}
	}
	return func(s string) float64 {
		most := math.Inf(-1)
		text := make([]rune, len(s))
		for i := range len(s) {
			if text[i] = cs.DecodeByte(s[i]); text[i] == utf8.RuneError || 0x80 <= text[i] && text[i] < 0xA0 {
				return most
			}
		}
		start := prior
		if !latin && strings.IndexFunc(s, isHigh) == strings.LastIndexFunc(s, isHigh) {
			start -= 3 // a single letter
		}
		if !latin && latinWord.MatchString(strings.TrimSuffix(s, path.Ext(s))) {
			start -= 3
		}
		for _, table := range tables {
			most = max(most, start+rateLetters(text, table, latin))
		}
		return most
	}
}

// isHigh reports whether a rune is beyond ASCII, or an invalid byte.
func isHigh(r rune) bool { return r >= utf8.RuneSelf }

// latinWord matches letters of ASCII, which are more than the number of a version or a unit.
var latinWord = regexp.MustCompile(`[a-zA-Z]{3}`)

// rateLetters adds up what is known of each character and of its place: words do not mix scripts,
// and have capitals at the beginning, or everywhere.
func rateLetters(text []rune, table map[rune]float64, latin bool) float64 {
	total := 0.0
	var before, last rune
	for _, r := range text {
		switch p, known := table[r]; {
		case r < utf8.RuneSelf:
			total += ascii
		case known:
			total += p
		case unicode.IsUpper(r) && table[unicode.ToLower(r)] != 0:
			if total += table[unicode.ToLower(r)]; latin {
				total-- // the capitals that words begin with are in the table
			}
		case strings.ContainsRune("–—’“”„«»№°€§©®", r):
			total -= 7
		default:
			total += strange
		}
		total += place(before, last, r, latin)
		before, last = last, r
	}
	return total
}

// place rates a character after the two before it.
func place(before, last, r rune, latin bool) float64 {
	mixed := (r < utf8.RuneSelf) != (last < utf8.RuneSelf)
	switch {
	case last == 0 && unicode.IsLower(r) && r >= utf8.RuneSelf:
		return -0.7 // most names begin with a capital
	case r < utf8.RuneSelf && !mixed, !unicode.IsLetter(r), !unicode.IsLetter(last):
		return 0
	case mixed && !latin:
		return -7
	case unicode.IsUpper(r) && unicode.IsLower(last):
		return -5
	case unicode.IsLower(r) && unicode.IsUpper(last) && unicode.IsUpper(before):
		return -3
	case unicode.IsUpper(r) && unicode.IsUpper(last) && !unicode.IsUpper(before):
		return -2 // the word is in capitals
	case !mixed && latin:
		return -1.5
	}
	return 0
}

// A pairModel rates texts of a charset in which most characters have two bytes.
type pairModel struct {
	prior    float64
	encoding encoding.Encoding
	frequent map[rune]float64
	// other is the rating of a character that is not frequent, by its bytes.
	other func(a, b byte) float64
	// single reports whether a byte beyond ASCII is a character, which rateSingle then rates.
	single func(c byte) bool
}

const rateSingle = -7.0

func (m pairModel) rate(s string) float64 {
	total, d := m.prior, m.encoding.NewDecoder()
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c < utf8.RuneSelf:
			total += ascii
			i++
		case m.single != nil && m.single(c):
			total += rateSingle + m.between(s, i, 1)
			i++
		case i+1 == len(s):
			if len(s) < maxGuess {
				return math.Inf(-1)
			}
			i++
		default:
			p := m.pair(d, s[i:i+2])
			if math.IsInf(p, -1) {
				return p
			}
			total += p + m.between(s, i, 2)
			i += 2
		}
	}
	return total
}

// between rates a character at s[i:] by the letters of ASCII beside it: European words have them
// there.
func (m pairModel) between(s string, i, size int) (p float64) {
	if i > 0 && isLetter(s[i-1]) {
		p -= 2.5
	}
	if i+size < len(s) && isLetter(s[i+size]) {
		p -= 2.5
	}
	return p
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// pair rates a character of two bytes; it is impossible if the charset does not have it.
func (m pairModel) pair(d *encoding.Decoder, s string) float64 {
	var text [utf8.UTFMax]byte
	n, _, err := d.Transform(text[:], []byte(s), true)
	r, size := utf8.DecodeRune(text[:n])
	if err != nil || r == utf8.RuneError || size != n || unicode.Is(unicode.Co, r) {
		return math.Inf(-1)
	}
	if p, ok := m.frequent[r]; ok {
		return p
	}
	return m.other(s[0], s[1])
}

// byFrequency gives the first characters a higher probability than the last ones. About 80 of 100
// characters of a text are among the 500 most frequent.
func byFrequency(chars string) map[rune]float64 {
	table := map[rune]float64{}
	for i, r := range []rune(chars) {
		if _, twice := table[r]; !twice {
			table[r] = -5.5 - float64(min(i, 600))/300
		}
	}
	return table
}

const (
	mark     = -8.0  // full-width punctuation and digits
	usual    = -9.5  // the characters that everybody learns
	rare     = -11.5 // other characters of the language
	veryRare = -15.0
)

var simplified = pairModel{
	prior: -1, frequent: byFrequency(namesSimplified + commonSimplified),
	encoding: simplifiedchinese.GBK,
	other: func(a, b byte) float64 {
		switch {
		case (a == 0xA1 || a == 0xA3) && b >= 0xA1:
			return mark
		case 0xB0 <= a && a <= 0xD7 && b >= 0xA1:
			return usual
		case 0xD8 <= a && a <= 0xF7 && b >= 0xA1:
			return rare
		}
		return veryRare
	},
}

var traditional = pairModel{
	prior: -1.5, frequent: byFrequency(namesTraditional + commonTraditional),
	encoding: traditionalchinese.Big5,
	other: func(a, b byte) float64 {
		switch {
		case a < 0xA1:
			return math.Inf(-1)
		case a == 0xA1 || a == 0xA2:
			return mark
		case 0xA4 <= a && a <= 0xC6:
			return usual
		case 0xC9 <= a && a <= 0xF9:
			return rare
		}
		return veryRare
	},
}

var hangul = pairModel{
	prior: -1.5, frequent: byFrequency(namesHangul + commonHangul),
	encoding: korean.EUCKR,
	other: func(a, b byte) float64 {
		switch {
		case (a == 0xA1 || a == 0xA3) && b >= 0xA1:
			return mark
		case 0xB0 <= a && a <= 0xC8 && b >= 0xA1:
			return usual
		}
		return veryRare
	},
}

var shiftJIS = pairModel{
	prior: -1.5, frequent: frequentJapanese,
	encoding: japanese.ShiftJIS,
	single:   func(c byte) bool { return 0xA1 <= c && c <= 0xDF },
	other: func(a, b byte) float64 {
		switch {
		case a == 0x81 || a == 0x82 || a == 0x87:
			return mark
		case 0x88 <= a && a <= 0x98:
			return usual
		case a <= 0xEA:
			return rare
		}
		return veryRare
	},
}

var eucJP = pairModel{
	prior: -2.5, frequent: frequentJapanese,
	encoding: japanese.EUCJP,
	other: func(a, b byte) float64 {
		switch {
		case a == 0xA1 || a == 0xA3 || a == 0xAD:
			return mark
		case 0xB0 <= a && a <= 0xCF:
			return usual
		case a <= 0xF4:
			return rare
		}
		return veryRare
	},
}

var frequentJapanese = func() map[rune]float64 {
	table := byFrequency(namesJapanese + commonJapanese)
	for r := 'ぁ'; r <= 'ん'; r++ {
		table[r] = -5.5
	}
	for r := 'ァ'; r <= 'ー'; r++ {
		table[r] = -5.5
	}
	for _, r := range "ぁぃぅぇぉゎゐゑをァィゥェォヮヰヱヵヶヲ" {
		table[r] = mark
	}
	return table
}()

// The most frequent characters of each language: first those of words in file names (report,
// contract, invoice, minutes, list, …), then those of running text, both roughly in order.
const (
	namesSimplified  = "报告合同财务附件通知简历发票方案会议纪要清单表格说明书申请统计预算项目培训计划总结资料文档测试照片图片扫描客户订单报价产品工资考勤新建复印证明登记采购付款年月日第号版最终修改公司有限王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭肖董袁蔡蒋余杜叶魏苏吕丁沈钟姜谭陆范汪廖贾夏熊秦邱侯江薛雷龙黎陶贺顾邵钱戴严孔汤"
	commonSimplified = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支般史感劳便团往酸历市克何除消构府称太准精值号率族维划选标写存候毛亲快效斯院查江型眼王按格养易置派层片始却专状育厂京识适属圆包火住调满县局照参红细引听该铁价严"

	namesTraditional  = "報告合約財務附件通知簡歷發票提案會議記錄紀清單表格說明書申請統計預算專案訓練計畫總結資料文件測試照片圖掃描客戶訂報價產品薪資考勤履新增中測試臺灣影印證明登記採購付款年月日第號版最終修改公司有限檔案王李張劉陳楊黃趙吳周徐孫馬朱胡郭何林高羅鄭梁謝宋唐許韓鄧馮曹彭蕭董袁蔡蔣余杜葉魏蘇呂丁沈鍾姜譚陸范汪廖賴賈夏熊秦邱侯江薛雷龍黎陶賀顧邵錢戴嚴孔湯"
	commonTraditional = "的一是不我有人在了大他這中來上個國以要們時到說地為子出就你會可也對生能而之那得著下自年過發後作里如果行所成方多經去法學家都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身加西斯月話合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管期市直德資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交規萬取拉格望覺術領共確傳師觀清今切院讓識候帶導爭運風步改收根造言聯持組每濟車親極林服快辦議往元英士證近失轉令准布始存未遠叫台單影具羅字愛擊流備兵連調深商算質團集百需價花黨華城石級整府離況請技際約示復病息究線似官火斷精滿支視消越器容照須九增研寫稱企八功包片史委查輕易早除農找裝廣顯李標談圖念六引歷首醫局突專費號盡另周較注語考落青隨選列"

	namesJapanese  = "報告書見積請求添付資料契約注文履歴会議事録名簿一覧表仕様案内申込用紙領収写真画像経明細予定日程企画提案年月度第版最終修正新旧株式社様御田山本中村小林佐藤鈴木高橋渡辺伊加吉川井上原石清水野崎島"
	commonJapanese = "日一国会人年大十二本中長出三同時政事自行社見月分議後前民生連五発間対上部東者党地合市業内相方四定今回新場金員九入選立開手米力学問高代明実円関決子動京全目表戦経通外最言氏現理調体化田当八六約主題下首意法不来作性的要用制治度務強気小七成期公野協取都和統以機平総加山思家話世受区領多県続進正安設保改数記院女初北午指権心界支第産結百派点教報済書府活原先共得解名交資予川向際査勝面委告軍文反元重近千考判認画海参売利組知案道信策集在件団別物側任引使求所次水半品昨論計死官増係感特情投示変打男基私各始島直両朝革価式確村提運終挙果西勢減台広容必応演電歳住争談能無再位置企真流格有疑口過局少放税検藤町常校料沢裁状工建語球営空職証土与急止送援供可役構木割聞身費付施切由説転食比難防補車優夫研収断井何南石足違消境神番規術護展態導鮮備宅害配副算視条幹独警宮究育席輸訪楽起万着乗店述残想線率病農州武声質念待試族象銀域助労例衛然早張映限親額監環験追審商葉義伝働形景落欧担好退準賞訴辺造英被株頭技低毎医復仕去姿味負閣韓渡失移差衆個門写評課末守若脳極種美岡影命含福蔵量望松非撃佐核観察整段横融型白深字答夜製票況音申様財港識注呼渉達"

	namesHangul  = "계약서보고서견적서첨부파일이력서회의록사업획신청명단자료안내결과양식세금산발주정최종수일년월차공문제출사진목표새폴더글테트문김이박최정강조윤장임한오서신권황안송류홍"
	commonHangul = "이다는에의을고가한하지은로기도를사자리어인대나시서해그아정일만라있부제수장전상들스여동주보경과원구우게거면신안세조성선국문위공년진방오니소것적요식내학생유으까음무비분관연계중당모바습실미물와발결말차재명치영행간저회개강민체등러할화입트야단려된없금월속반외본양용타통합두네터점래달심석배근산같작마람때업표알건데직출복론불절특질현법권설림예교호처감살투후울길노육크히임천견력번약품청초술증파남열추규철태항각접급십"
)

// Plausible reports whether each character of a text beyond ASCII is a letter of an alphabet, or a
// frequent character of a language.
func Plausible(text string) bool {
	for _, r := range text {
		_, han := simplified.frequent[r]
		_, traditional := traditional.frequent[r]
		_, japanese := frequentJapanese[r]
		_, korean := hangul.frequent[r]
		if r >= utf8.RuneSelf && !(r < 0x800 && unicode.IsLetter(r)) && !han && !traditional && !japanese && !korean {
			return false
		}
	}
	return true
}
