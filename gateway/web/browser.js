'use strict';
// Decrypting in the browser, by worker.js: offered where a worker may run; whether it does shows when it is asked.
detach.browser = (() => {
	const patience = 10_000, awake = 5_000; // Firefox ends a worker that heard nothing for 30 s
	const unanswered = 2; // so many messages: counted, for in a tab that is not looked at a clock runs and timers wait

	// QUIRK: Firefox 153 keeps all of what a worker answers in memory, until the download has ended.
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

	// Starts a download of {key, cid, source, name, size}. report is told {ready}, {written} as it goes on, and {done} or {failed}
	// at its end, or {gone} when the browser has ended the worker, which cannot say so itself. Until then the page has to stay: it
	// keeps the worker awake.
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
