'use strict';
// The file list of a mail. Its link opens all of the mail's files; the link to a file opens only
// that file. A click in the list appends the list's link to the file's key, #KEY.CID.KEY, so that
// the file's page can show the list too. The appended link is not in the links that a reader can
// copy, and the page removes it from its address.
detach.all = (() => {
	const { decode, openMeta, contentKey, clean, extension, draw } = detach;
	const type = 'application/vnd.detach.files';
	const most = 2 ** 20; // bytes of a list
	const appended = /^#(z\w+)\.(bafybei[a-z2-7]{52})\.(z\w+)$/;
	const target = /\/(bafybei[a-z2-7]{52})#(z\w+)$/;

	// Moves the list's link, {cid, key}, from the address to the history's entry, and returns it.
	function from() {
		const found = appended.exec(location.hash);
		if (found) history.replaceState({ cid: found[2], key: found[3] }, '', '#' + found[1]);
		return history.state;
	}

	async function get(address) {
		const answer = await fetch(address, { credentials: 'omit', redirect: 'error' });
		if (!answer.ok) throw new Error(answer.status);
		return answer;
	}

	// Fetches and opens the list, which must have the SHA-256 that the sealed metadata gives. Its own
	// page has the share and the metadata already.
	async function open(at, { key, sealed }) {
		const text = name => get(at + name).then(answer => answer.text());
		const [share, meta] = sealed || await Promise.all([text('/share'), text('/meta.jwe')]);
		const a = decode(key);
		const about = await openMeta(a, share, meta);
		if (about.type !== type || !(about.size <= most)) throw new Error('not a list');
		const data = await (await get(at + '/data')).arrayBuffer();
		const plain = await crypto.subtle.decrypt({ name: 'AES-CTR', counter: new Uint8Array(16), length: 128 }, await contentKey(a, share), data);
		const sum = Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', plain)), b => b.toString(16).padStart(2, '0')).join('');
		if (about.sha256 !== sum) throw new Error('not the list');
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

	// Shows the list on its own page, or on the page of a file in it.
	async function show(own, cid) {
		const list = own || from();
		$('all').hidden = true;
		if (!list) return;
		const { base } = $('open').dataset;
		const files = await open(base + list.cid, list);
		if (!own && !files.some(file => file.link.includes(cid))) return;
		const say = text => text.replace('{count}', files.length).replace('{size}', size(files.reduce((sum, file) => sum + file.size, 0)));
		$('files').replaceChildren(...files.map(file => line(file, base, list, own ? '' : cid)));
		$('up').textContent = say($('up').dataset.text);
		$('up').href = $('zip').action = base + list.cid + '/all';
		$('up').hash = $('zip').key.value = list.key;
		$('pack').textContent = say($('go').dataset.all);
		$('up').parentNode.hidden = $('zip').hidden = Boolean(own);
		if (own) {
			$('name').textContent = document.title = say($('name').dataset.all);
			$('size').textContent = say('{size}');
			$('go').textContent = say($('go').dataset.all);
			$('after').textContent = $('after').dataset.all;
		}
		$('all').hidden = false;
	}

	return { type, show, from, size };
})();
