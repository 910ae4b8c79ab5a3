'use strict';
(() => {
	const { fragment, decode, openMeta, contentKey, cidBytes, clean, extension, draw, browser, all } = detach;
	const root = document.documentElement;
	const skeleton = 'application/vnd.detach.skeleton';
	const programs = /^(exe|msi|msix|bat|cmd|com|scr|pif|cpl|hta|js|jse|vbs|vbe|wsf|ps1|jar|lnk|url|reg|iso|img|apk|dmg|pkg|app|command|sh|run|desktop|xll|chm)$/;

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
			// Size and checksum are those of what the download is put together from.
			$('size').textContent = meta.type === skeleton ? $('size').dataset.original : '';
		} else if (/^[0-9a-f]{64}$/.test(meta.sha256)) {
			$('sha256').textContent = meta.sha256;
			$('checksum').hidden = false;
		}
		// The offer goes by the name alone. The server looks into the file before it shows it.
		if ($('view')) $('view').hidden = made || !$('view').dataset.shows.split(' ').includes(ext.toLowerCase());
		$('here').hidden = made || !browser.possible(meta.size);
	}

	// The other way to download: the server gives ciphertext, and the rest happens here.
	async function decryptHere() {
		const say = (key, share) => {
			$('progress').textContent = $('here').dataset[key].replace('{percent}', share);
			$('decrypt').disabled = key === 'running';
		};
		say('running', 0);
		try {
			const { share, meta, cid, source, worker } = $('open').dataset;
			const a = decode($('key').value);
			const { name, size } = await openMeta(a, share, meta);
			const job = { key: await contentKey(a, share), cid: cidBytes(cid), source, name: clean(name), size };
			await browser.start(worker, job, ({ written, done, failed, gone }) => {
				if (written) say('running', Math.floor(written / size * 100));
				if (done) say('done');
				if (failed) say('failed');
				if (gone) say('gone');
			});
		} catch {
			say('unable'); // a private window, say: the button above works everywhere
		}
	}

	async function show() {
		all.from(); // at once: the address is for copying
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
			const { share, meta, cid } = $('open').dataset;
			const about = await openMeta(a, share, meta);
			describe(about);
			// The button works without the list, and a file's page without the others.
			if (about.type === all.type) await all.show({ cid, key }).catch(() => {});
			else all.show(null, cid).catch(() => {});
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
