'use strict';
(() => {
	const root = document.documentElement;
	const $ = id => document.getElementById(id);
	const utf8 = s => new TextEncoder().encode(s);
	const alphabet = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
	const skeleton = 'application/vnd.detach.skeleton';
	const programs = /^(exe|msi|msix|bat|cmd|com|scr|pif|cpl|hta|js|jse|vbs|vbe|wsf|ps1|jar|lnk|url|reg|iso|img|apk|dmg|pkg|app|command|sh|run|desktop|xll|chm)$/;

	// The fragment as a mail program may hand it on: escaped once or twice, wrapped, with the bracket or the full stop after it.
	function fragment(text) {
		for (let i = 0; i < 2; i++) try { text = decodeURIComponent(text); } catch { break; }
		text = text.replace(/[\s\u200b\u00ad]+/g, '');
		const found = /^z[1-9A-HJ-NP-Za-km-z]*/.exec(text.slice(text.indexOf('#') + 1));
		return found ? found[0] : '';
	}

	// Multibase base58btc of exactly 32 bytes, or null.
	function decode(text) {
		let n = 0n, zeros = 0, bytes = [];
		if (text[0] !== 'z' || text.length > 64) return null;
		for (const c of text.slice(1)) {
			const digit = alphabet.indexOf(c);
			if (digit < 0) return null;
			if (digit === 0 && n === 0n) zeros++;
			n = n * 58n + BigInt(digit);
		}
		for (; n > 0n; n >>= 8n) bytes.unshift(Number(n & 255n));
		bytes = [...Array(zeros).fill(0), ...bytes];
		return bytes.length === 32 ? Uint8Array.from(bytes) : null;
	}

	const base64url = s => Uint8Array.from(atob(s.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));

	// Opens meta.jwe (RFC 7516: dir, A256GCM) under HKDF(A xor B). A wrong key fails in decrypt, with an OperationError.
	async function openMeta(a, share, jwe) {
		const b = decode(share);
		const k = await crypto.subtle.importKey('raw', a.map((x, i) => x ^ b[i]), 'HKDF', false, ['deriveKey']);
		const key = await crypto.subtle.deriveKey(
			{ name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info: utf8('detach/v1 meta') },
			k, { name: 'AES-GCM', length: 256 }, false, ['decrypt']);
		const [head, , iv, text, tag] = jwe.split('.');
		const sealed = Uint8Array.from([...base64url(text), ...base64url(tag)]);
		const plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: base64url(iv), additionalData: utf8(head) }, key, sealed);
		return JSON.parse(new TextDecoder().decode(plain));
	}

	// What the server makes of the name when it saves (name.go): no path, no control characters, no change of direction.
	function shown(name) {
		return name.split(/[/\\]/).pop().replace(/(?![\u200c\u200d])\p{Cf}/gu, '').replace(/\s+/g, ' ').replace(/\p{Cc}/gu, '')
			.replace(/[<>:"|?*]/g, '_').trim().replace(/[. ]+$/, '').replace(/^\.+/, '_');
	}

	function describe(meta) {
		const name = shown(String(meta.name || '')) || $('name').dataset.unnamed;
		const ext = /[^.]\.([\p{L}\p{N}]{1,8})$/u.exec(name)?.[1] || '';
		$('name').textContent = document.title = name;
		$('name').className = name.length > 60 ? 'long' : '';
		if (ext) {
			$('type').textContent = $('type').dataset.text.replace('{ext}', ext.toUpperCase()) + ' · ';
			$('ext').textContent = ext.length < 6 ? ext.toUpperCase() : '';
		}
		$('program').hidden = !programs.test(ext.toLowerCase());
		if (meta.type === skeleton) {
			// Size and checksum are those of what the message is put together from.
			$('size').textContent = $('size').dataset.original;
		} else if (/^[0-9a-f]{64}$/.test(meta.sha256)) {
			$('sha256').textContent = meta.sha256;
			$('checksum').hidden = false;
		}
	}

	async function show() {
		const key = fragment(location.hash);
		const a = decode(key);
		if (!a) {
			root.dataset.state = key ? 'cut' : 'missing';
			return;
		}
		root.dataset.state = 'opening';
		$('key').value = key; // the button works from here on
		let state = 'ready';
		try {
			const { share, meta } = $('open').dataset;
			describe(await openMeta(a, share, meta));
		} catch (error) {
			// Anything else, such as no WebCrypto over plain HTTP: the button still works, and the server knows the name.
			if (error.name === 'OperationError') state = 'wrong';
		}
		if (fragment(location.hash) !== key) return;
		if (state === 'wrong') $('key').value = '';
		root.dataset.state = state;
	}

	function pasted() {
		const text = $('key').value;
		const key = fragment(text);
		// A link to another file is left to the server, which opens that one.
		if (!decode(key) || (text.includes('/') && !text.includes($('open').dataset.cid))) return;
		history.replaceState(null, '', '#' + key);
		show();
	}

	root.dataset.state = 'opening';
	addEventListener('hashchange', show);
	document.addEventListener('DOMContentLoaded', () => {
		const locale = navigator.languages.find(l => l.startsWith(root.lang)) || root.lang;
		for (const time of document.querySelectorAll('time')) {
			time.textContent = new Intl.DateTimeFormat(locale, { dateStyle: 'long', timeStyle: 'short' }).format(new Date(time.dateTime));
		}
		$('key').addEventListener('input', pasted);
		$('open').addEventListener('submit', () => { $('after').textContent = $('after').dataset.sent; });
		show();
	});
})();
