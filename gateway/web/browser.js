'use strict';
// Decrypts in the browser, with worker.js. It is offered where the browser allows service workers.
detach.browser = (() => {
	const patience = 10_000, awake = 5_000; // Firefox ends a worker that gets no message for 30 s
	const unanswered = 2; // messages, not seconds: a hidden tab's timers wait while the clock runs

	// QUIRK: Firefox 153 keeps a worker's whole answer in memory until the download has ended.
	const most = CSS.supports('-moz-appearance', 'none') ? 2 ** 29 : Infinity;

	const possible = size => size <= most && isSecureContext && 'serviceWorker' in navigator;

	async function worker(address) {
		const scope = address.slice(0, address.lastIndexOf('/') + 1);
		const registration = await navigator.serviceWorker.register(address, { scope });
		const worker = registration.active || registration.waiting || registration.installing;
		if (worker.state === 'activated') return [worker, scope];
		return new Promise((resolve, reject) => {
			setTimeout(() => reject(new Error('no worker')), patience);
			worker.addEventListener('statechange', () => {
				if (worker.state === 'activated') resolve([worker, scope]);
				if (worker.state === 'redundant') reject(new Error('no worker'));
			});
		});
	}

	// Starts a download of {key, cid, source, name, size}. It reports {ready}, then {written}
	// during the download, and at the end {done}, {failed}, or {gone} if the browser has ended the
	// worker. The page must stay open until then, since its messages keep the worker awake.
	async function start(address, job, report) {
		const [to, scope] = await worker(address);
		const id = crypto.randomUUID();
		const { port1, port2 } = new MessageChannel();
		let asked = 0;
		const ping = setInterval(() => {
			if (asked++ < unanswered) return to.postMessage({ id });
			clearInterval(ping);
			report({ gone: true });
		}, awake);
		port1.onmessage = ({ data }) => {
			asked = 0;
			if (data.ready) location.assign(scope + id + '/' + encodeURIComponent(job.name));
			if (data.done || data.failed) clearInterval(ping);
			report(data);
		};
		to.postMessage({ ...job, id }, [port2]);
	}

	return { possible, start };
})();
