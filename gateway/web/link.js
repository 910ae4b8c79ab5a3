'use strict';
// Parses links as mail programs pass them on, and opens metadata with their keys.
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

	const base64url = s => Uint8Array.from(atob(s.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));

	const join = (a, share) => {
		const b = decode(share);
		return a.map((x, i) => x ^ b[i]);
	};

	// Returns the file key, which cannot be exported.
	const contentKey = (a, share) => crypto.subtle.importKey('raw', join(a, share), 'AES-CTR', false, ['decrypt']);

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

	// Opens meta.jwe (RFC 7516: dir, A256GCM). A wrong key causes an OperationError.
	async function openMeta(a, share, jwe) {
		const k = await crypto.subtle.importKey('raw', join(a, share), 'HKDF', false, ['deriveKey']);
		const key = await crypto.subtle.deriveKey(
			{ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info: utf8('detach/v1 meta') },
			k, { name: 'AES-GCM', length: 256 }, false, ['decrypt']);
		const [head, , iv, text, tag] = jwe.split('.');
		const sealed = Uint8Array.from([...base64url(text), ...base64url(tag)]);
		const plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: base64url(iv), additionalData: utf8(head) }, key, sealed);
		return JSON.parse(new TextDecoder().decode(plain));
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

	return { fragment, decode, openMeta, contentKey, cidBytes, clean, extension, draw };
})();
