'use strict';
// Parses links as mail programs pass them on, and opens objects with their keys (docs/format.md).
const $ = id => document.getElementById(id);

const detach = (() => {
	const utf8 = s => new TextEncoder().encode(s);
	const base58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
	const base32 = 'abcdefghijklmnopqrstuvwxyz234567';

	// Finds the fragment in a text from a mail program, which may have escaped or wrapped it. What
	// mail systems put around a link may have a "#" too. The server knows more forms.
	function fragment(text) {
		for (let i = 0; i < 2; i++) try { text = decodeURIComponent(text); } catch { break; }
		text = text.replace(/[\s\u200b\u00ad]+/g, '');
		const whole = /#(z[1-9A-HJ-NP-Za-km-z]{32,})/.exec(text);
		const found = whole ? [whole[1]] : /^z[1-9A-HJ-NP-Za-km-z]*/.exec(text.slice(text.indexOf('#') + 1));
		return found ? found[0] : '';
	}

	// Decodes multibase base58btc of exactly 32 bytes; null if the text is anything else.
	function decode(text) {
		let n = 0n, zeros = 0, bytes = [];
		if (text[0] !== 'z' || text.length > 64) return null;
		for (const c of text.slice(1)) {
			const digit = base58.indexOf(c);
			if (digit < 0) return null;
			if (digit === 0 && n === 0n) zeros++;
			n = n * 58n + BigInt(digit);
		}
		for (; n > 0n; n >>= 8n) bytes.unshift(Number(n & 255n));
		bytes = [...Array(zeros).fill(0), ...bytes];
		return bytes.length === 32 ? Uint8Array.from(bytes) : null;
	}

	// Encodes 32 bytes in the form that decode reads.
	function encode(bytes) {
		let text = '';
		for (let n = bytes.reduce((n, b) => n << 8n | BigInt(b), 0n); n > 0n; n /= 58n) text = base58[n % 58n] + text;
		const zeros = bytes.findIndex(b => b);
		return 'z' + '1'.repeat(zeros < 0 ? bytes.length : zeros) + text;
	}

	const base64url = s => Uint8Array.from(atob(s.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
	const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);
	const sha256 = async bytes => new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));

	async function derive(from, label, core = []) {
		const key = await crypto.subtle.importKey('raw', from, 'HKDF', false, ['deriveBits']);
		const info = Uint8Array.from([...utf8(label), ...core]);
		return new Uint8Array(await crypto.subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info }, key, 256));
	}

	const refused = status => Object.assign(new Error('status ' + status), { status });

	async function get(address, headers = {}) {
		const answer = await fetch(address, { headers, credentials: 'omit', redirect: 'error' });
		if (!answer.ok) throw refused(answer.status);
		return answer;
	}

	// Opens the object at an address with a, the bytes of its link's fragment, and with core, meta.jwe
	// and origin. Returns its metadata, and its file key, which cannot be exported. The gateway gives
	// its share of the key for a proof that comes from the fragment and does not tell it. A fragment
	// that does not fit causes an error of status 403, like that of a gateway that refuses the proof.
	async function open(at, a, { core, meta, origin }) {
		const proof = await derive(a, 'detach/v1 ask', core);
		if (!same(await sha256(proof), origin.subarray(0, 32))) throw refused(403);
		const { share } = await (await get(at + '/share', { Authorization: 'Detach ' + encode(proof) })).json();
		const b = decode(share);
		const k = a.map((x, i) => x ^ b[i]);
		if (!same(await derive(k, 'detach/v1 commit', core), origin.subarray(32, 64))) throw new Error('not the share');
		return {
			meta: await openMeta(await derive(k, 'detach/v1 meta'), meta),
			key: await crypto.subtle.importKey('raw', k, 'AES-CTR', false, ['decrypt']),
		};
	}

	// Opens meta.jwe (RFC 7516: dir, A256GCM).
	async function openMeta(from, jwe) {
		const key = await crypto.subtle.importKey('raw', from, 'AES-GCM', false, ['decrypt']);
		const [head, , iv, text, tag] = jwe.split('.');
		const sealed = Uint8Array.from([...base64url(text), ...base64url(tag)]);
		const plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: base64url(iv), additionalData: utf8(head) }, key, sealed);
		return JSON.parse(new TextDecoder().decode(plain));
	}

	// Returns the 36 bytes of a CID in base32.
	function cidBytes(cid) {
		const bytes = [];
		let bits = 0, n = 0;
		for (const c of cid.slice(1)) {
			n = (n << 5 | base32.indexOf(c)) & 4095;
			if ((bits += 5) >= 8) bytes.push(n >> (bits -= 8) & 255);
		}
		return Uint8Array.from(bytes);
	}

	// Returns the name of the download. internal/filename has the same rules; a test compares them.
	function clean(name) {
		name = name.replace(/(?![\u200c\u200d\t-\r\x85])[\p{Cc}\p{Cf}]/gu, '').replace(/[\s\x85]+/g, ' ').replace(/[/\\ ]+$/, '');
		if (/^ *([/\\]|~[/\\]|[A-Za-z]:[/\\]|[a-z]+:\/\/)|(^ *|[/\\])\.\.?[/\\]/.test(name)) name = name.split(/[/\\]/).pop();
		name = name.replace(/[/\\]/g, '_').replace(/^[. ]+|[. ]+$/g, '').replace(/^macintosh hd:.*?([^:]*)$/i, '$1').replace(/^[. ]+/, '')
			.replace(/[<>:"|?*]/g, '_').replace(/^[. -]+|[. ]+$/g, '');
		const device = /^(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³]) *(\.|$)/iu;
		return shorten(name.replace(device, '_$&')) || 'attachment';
	}

	function shorten(name) {
		const bytes = utf8(name);
		if (bytes.length <= 200) return name;
		let ext = /\.[^.]*$/.exec(name)?.[0] || '';
		if (utf8(ext).length > 20) ext = '';
		let end = 200 - utf8('…' + ext).length;
		while ((bytes[end] & 0xc0) === 0x80) end--; // inside a character
		return new TextDecoder().decode(bytes.subarray(0, end)) + '…' + ext;
	}

	const extension = name => /[^.]\.([\p{L}\p{N}]{1,8})$/u.exec(name)?.[1] || '';

	// The kinds of files: their extensions, and the drawing on their icon.
	const kinds = {
		image: [/^(png|jpe?g|gif|webp|avif|heic|heif|tiff?|bmp|svg|ico|psd|raw|dng|cr2|nef)$/, 'M11 25h24v21H11zM11 42l7-8 6 6 4-4 7 7M27 31a1 1 0 1 0 3 0a1 1 0 1 0-3 0'],
		audio: [/^(mp3|m4a|aac|wav|og[ga]|opus|flac|wma|aiff?|midi?|amr)$/, 'M18 44V28l13-3v16M18 44a3 3 0 1 1-6 0a3 3 0 1 1 6 0M31 41a3 3 0 1 1-6 0a3 3 0 1 1 6 0'],
		video: [/^(mp4|m4v|mov|avi|mkv|webm|ogv|wmv|mpe?g|3gp|mts)$/, 'M16 25l17 11-17 11z'],
		pdf: [/^pdf$/, 'M4 31h38v17H4z'],
		text: [/^(txt|md|log|rtf|tex|html?|xml|json|ya?ml|ini|conf|srt)$/, 'M12 25h22M12 32h22M12 39h22M12 46h12'],
		archive: [/^(zip|7z|rar|t?gz|tar|bz2|xz|zst|cab)$/, 'M21 16h4M21 22h4M21 28h4M20 34h6l2 8a5 4 0 1 1-10 0z'],
		sheet: [/^(xls[xmb]?|ods|fods|csv|tsv|numbers)$/, 'M11 25h24v21H11zM11 32h24M11 39h24M20 25v21'],
		document: [/^(docx?|docm|dotx?|odt|fodt|pages|epub)$/, 'M12 25h9v9h-9zM26 26h8M26 33h8M12 40h22M12 47h22'],
		slides: [/^(pp[ts]x?|pptm|odp|fodp)$/, 'M11 25h24v16H11zM17 37v-4M23 37v-8M29 37v-6M17 48l6-7 6 7'],
		mail: [/^(eml|msg|mbox)$/, 'M11 27h24v18H11zl12 10 12-10'],
	};

	// Draws the kind on an icon, or the extension if the kind has no drawing.
	function draw(icon, ext) {
		const [kind, [, d]] = Object.entries(kinds).find(([, [endings]]) => endings.test(ext.toLowerCase())) || ['other', [, '']];
		icon.dataset.kind = kind;
		icon.querySelector('.kind').setAttribute('d', d);
		icon.querySelector('text').textContent = (!d || kind === 'pdf') && ext.length < 5 ? ext.toUpperCase() : '';
	}

	return { fragment, decode, encode, base64url, sha256, get, open, cidBytes, clean, extension, draw };
})();
