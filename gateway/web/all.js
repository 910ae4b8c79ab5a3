'use strict';
// The file list of a mail. Its link opens all of the mail's files; the link to a file opens only
// that file. A click in the list appends the list's link to the file's key, #KEY.CID.KEY, so that
// the file's page can show the list too. The appended link is not in the links that a reader can
// copy, and the page removes it from its address.
detach.all = (() => {
	const { decode, sha256, get, open, cidBytes, clean, extension, draw } = detach;
	const type = 'application/vnd.detach.files';
	const most = 2 ** 20; // bytes of a list
	const appended = /^#(z\w+)\.(bafybei[a-z2-7]{52})\.(z\w+)$/;
	const target = /\/(bafybei[a-z2-7]{52})#(z\w+)$/;

	// Reports whether the page is shown, which is at the latest a second after it began.
	const began = performance.now();
	const seen = () => document.documentElement.dataset.state === 'ready' || performance.now() - began > 900;

	// Moves the list's link, {cid, key}, from the address to the history's entry, and returns it.
	function from() {
		const found = appended.exec(location.hash);
		if (found) history.replaceState({ cid: found[2], key: found[3] }, '', '#' + found[1]);
		return history.state;
	}

	// Gets what opens the list, where the page is another's. The object's directory without its last
	// entry, origin, is its core: the entry takes 54 bytes, before the 4 that end the directory.
	async function sealed(cid, base) {
		const bytes = async address => new Uint8Array(await (await get(base + address)).arrayBuffer());
		const [root, origin, meta] = await Promise.all([
			bytes('ipfs/' + cid + '?format=raw'), bytes(cid + '/origin'), get(base + cid + '/meta.jwe').then(answer => answer.text()),
		]);
		const core = await sha256(Uint8Array.from([...root.subarray(0, -54), ...root.subarray(-4)]));
		return { core: [...cidBytes(cid).subarray(0, 4), ...core], meta, origin };
	}

	// Returns the files of a list, which must have the SHA-256 that the sealed metadata gives.
	async function read(at, { meta, key }) {
		if (meta.type !== type || !(meta.size <= most)) throw new Error('not a list');
		const data = await (await get(at + '/data')).arrayBuffer();
		const plain = await crypto.subtle.decrypt({ name: 'AES-CTR', counter: new Uint8Array(16), length: 128 }, key, data);
		const sum = Array.from(await sha256(plain), b => b.toString(16).padStart(2, '0')).join('');
		if (meta.sha256 !== sum) throw new Error('not the list');
		return JSON.parse(new TextDecoder().decode(plain)).files;
	}

	// Writes a number of bytes. internal/texts has the same rules, and a test compares the two.
	function size(n) {
		const { bytes, units, decimal } = JSON.parse($('size').dataset.words);
		let words = bytes[new Intl.PluralRules(document.documentElement.lang).select(n)] || bytes.other;
		if (n >= 1000) {
			let unit = 0;
			for (n /= 1000; n >= 999.5 && unit < units.length - 1; unit++) n /= 1000;
			n = n < 9.95 ? Math.round(n * 10) / 10 : Math.round(n);
			words = units[unit];
		}
		return words.replace('{n}', String(n).replace('.', decimal)).replaceAll(' ', '\u00a0');
	}

	function element(name, text, ...children) {
		const e = document.createElement(name);
		e.append(text, ...children);
		return e;
	}

	// Returns the line of a file: a link to the file's page, or plain text if this is the page.
	function line(file, base, list, current) {
		const [, cid, key] = target.exec(file.link);
		const name = clean(file.name);
		const icon = document.querySelector('.icon').cloneNode(true);
		draw(icon, extension(name));
		const a = element(cid === current ? 'span' : 'a', icon, element('bdi', name), element('small', size(file.size)));
		if (cid === current) {
			a.setAttribute('aria-current', 'page');
			return element('li', a);
		}
		a.href = base + cid + '#' + key;
		for (const click of ['click', 'auxclick']) a.addEventListener(click, ({ button }) => {
			if (button > 1) return; // the menu that copies links
			a.hash = [key, list.cid, list.key].join('.');
			setTimeout(() => { a.hash = key; });
		});
		return element('li', a);
	}

	// Shows the list on its own page, which has opened it, or on the page of a file in it.
	async function show(own, cid) {
		const list = own || from();
		$('all').hidden = true;
		if (!list) return;
		const { base } = $('open').dataset;
		const at = base + list.cid;
		const files = await read(at, own ? own.opened : await open(at, decode(list.key), await sealed(list.cid, base)));
		if (!own && !files.some(file => file.link.includes(cid))) return;
		const say = text => text.replace('{count}', files.length).replace('{size}', size(files.reduce((sum, file) => sum + file.size, 0)));
		$('files').replaceChildren(...files.map(file => line(file, base, list, own ? '' : cid)));
		$('up').textContent = say($('up').dataset.text);
		$('up').href = $('zip').action = at + '/all';
		$('up').hash = $('zip').key.value = list.key;
		$('pack').textContent = say($('go').dataset.all);
		$('up').parentNode.hidden = $('zip').hidden = Boolean(own);
		if (own) {
			$('name').textContent = document.title = say($('name').dataset.all);
			$('size').textContent = say('{size}');
			$('go').textContent = say($('go').dataset.all);
			$('after').textContent = $('after').dataset.all;
		}
		// A page that is being read must not move: a list that comes late stands at its end.
		if (!own && seen()) document.querySelector('main').append($('all'));
		$('all').hidden = false;
	}

	return { type, show, from, size };
})();
