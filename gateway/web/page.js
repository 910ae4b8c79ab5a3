'use strict';
(() => {
	const { fragment, decode, base64url, open, cidBytes, clean, extension, draw, browser, all } = detach;
	const root = document.documentElement;
	const skeleton = 'application/vnd.detach.skeleton';
	const programs = /^(exe|msi|msix|bat|cmd|com|scr|pif|cpl|hta|js|jse|vbs|vbe|wsf|ps1|jar|lnk|url|reg|iso|img|apk|dmg|pkg|app|command|sh|run|desktop|xll|chm)$/;
	let opened; // the metadata and the key of the object that the page shows

	// Writes a time in the reader's words.
	function tell(time, form) {
		const locale = navigator.languages.find(l => l.startsWith(root.lang)) || root.lang;
		time.textContent = new Intl.DateTimeFormat(locale, { dateStyle: 'long', ...form }).format(new Date(time.dateTime));
	}

	function describe(meta) {
		const name = clean(String(meta.name || ''));
		const ext = extension(name);
		$('name').textContent = document.title = name;
		$('name').className = name.length > 60 ? 'long' : '';
		draw(document.querySelector('.icon'), ext);
		if (ext) $('type').textContent = $('type').dataset.text.replace('{ext}', ext.toUpperCase()) + ' · ';
		$('program').hidden = !programs.test(ext.toLowerCase());
		const made = meta.type === skeleton || meta.type === all.type;
		if (made) {
			// The metadata has no size and checksum of the download.
			$('size').textContent = meta.type === skeleton ? $('size').dataset.original : '';
		} else if (/^[0-9a-f]{64}$/.test(meta.sha256)) {
			$('sha256').textContent = meta.sha256;
			$('checksum').hidden = false;
		}
		$('stored').querySelector('time').dateTime = meta.created;
		tell($('stored').querySelector('time'), { timeStyle: 'short' });
		$('stored').hidden = false;
		// The page offers to show a file by its name. The server decides by the content.
		if ($('view')) $('view').hidden = made || !$('view').dataset.shows.split(' ').includes(ext.toLowerCase());
		$('here').hidden = made || !browser.possible(meta.size);
	}

	// Downloads the ciphertext and decrypts it in the browser.
	async function decryptHere() {
		const say = (key, share) => {
			$('progress').textContent = $('here').dataset[key].replace('{percent}', share);
			$('decrypt').disabled = key === 'running';
		};
		say('running', 0);
		try {
			const { cid, source, worker } = $('open').dataset;
			const { key, meta: { name, size } } = opened;
			const job = { key, cid: cidBytes(cid), source, name: clean(name), size };
			await browser.start(worker, job, ({ written, done, failed, gone }) => {
				if (written) say('running', Math.floor(written / size * 100));
				if (done) say('done');
				if (failed) say('failed');
				if (gone) say('gone');
			});
		} catch {
			say('unable'); // for example in a private window
		}
	}

	async function show() {
		all.from(); // first, so that the reader cannot copy the list's link from the address
		const key = fragment(location.hash);
		const a = decode(key);
		if (!a) {
			root.dataset.state = key ? 'cut' : 'missing';
			return;
		}
		root.dataset.state = 'opening';
		$('key').value = key; // the button works from here on
		const { base, cid, core, meta, origin } = $('open').dataset;
		let state = 'ready';
		try {
			const found = await open(base + cid, a, { core: cidBytes(core), meta, origin: base64url(origin) });
			if (fragment(location.hash) !== key) return;
			opened = found;
			describe(opened.meta);
			// If the list cannot be fetched, the button still works.
			if (opened.meta.type === all.type) await all.show({ cid, key, opened }).catch(() => {});
			else await Promise.race([all.show(null, cid).catch(() => {}), new Promise(late => setTimeout(late, 400))]);
		} catch ({ status }) {
			// After other errors, like no WebCrypto over plain HTTP, the button still works.
			if (status === 403) state = 'wrong';
			else if (taken.includes(status) && !reloaded()) return location.reload();
		}
		if (fragment(location.hash) !== key) return;
		if (state === 'wrong') $('key').value = '';
		root.dataset.state = state;
	}

	// If the file was taken back after the page was fetched, or the store has stopped, the server has
	// a page for that. It is fetched once, in case that another gateway answers.
	const taken = [404, 410, 503];
	const reloaded = () => performance.getEntriesByType('navigation')[0]?.type === 'reload';

	function pasted() {
		const text = $('key').value;
		const key = fragment(text);
		// The server opens a pasted link to another file.
		if (!decode(key) || (text.includes('/') && !text.includes($('open').dataset.cid))) return;
		history.replaceState(null, '', '#' + key);
		show();
	}

	root.dataset.state = 'opening';
	addEventListener('hashchange', show);
	document.addEventListener('DOMContentLoaded', () => {
		if ($('until')) tell($('until'), { timeZone: 'UTC' });
		$('key').addEventListener('input', pasted);
		$('view')?.addEventListener('toggle', () => {
			if (!$('view').open) return;
			$('viewkey').value = $('key').value;
			$('view').querySelector('form').submit();
		}, { once: true });
		$('decrypt').addEventListener('click', decryptHere);
		$('open').addEventListener('submit', () => { $('after').textContent = $('after').dataset.sent; });
		show();
	});
})();
