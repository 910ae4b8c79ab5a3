'use strict';
// What every page's script needs: links as mail programs hand them on, and what their keys open.
const $ = id => document.getElementById(id);

const detach = (() => {
	const utf8 = s => new TextEncoder().encode(s);
	const base58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
	const base32 = 'abcdefghijklmnopqrstuvwxyz234567';

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

	// The file key, for the content alone and not to be taken out again.
	const contentKey = (a, share) => crypto.subtle.importKey('raw', join(a, share), 'AES-CTR', false, ['decrypt']);

	// The 36 bytes of a CID in base32.
	function cidBytes(cid) {
		const bytes = [];
		let bits = 0, n = 0;
		for (const c of cid.slice(1)) {
			n = (n << 5 | base32.indexOf(c)) & 4095;
			if ((bits += 5) >= 8) bytes.push(n >> (bits -= 8) & 255);
		}
		return Uint8Array.from(bytes);
	}

	// Opens meta.jwe (RFC 7516: dir, A256GCM) under HKDF(A xor B). A wrong key fails in decrypt, with an OperationError.
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

	// What the server makes of the name when it saves (name.go): no path, no control characters, no change of direction.
	function shown(name) {
		return name.split(/[/\\]/).pop().replace(/(?![\u200c\u200d])\p{Cf}/gu, '').replace(/\s+/g, ' ').replace(/\p{Cc}/gu, '')
			.replace(/[<>:"|?*]/g, '_').trim().replace(/[. ]+$/, '').replace(/^\.+/, '_');
	}

	const extension = name => /[^.]\.([\p{L}\p{N}]{1,8})$/u.exec(name)?.[1] || '';

	return { fragment, decode, openMeta, contentKey, cidBytes, shown, extension };
})();
