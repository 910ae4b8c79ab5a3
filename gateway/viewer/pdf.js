// Shows a PDF in a frame without an origin. Only the pages in or near the view are drawn.
const { file, library, failed, numbered } = document.body.dataset;
const state = document.getElementById('state');
const maxPixels = 8e6; // of one page
const at = path => new URL(path, location.href).href;

// Without an origin, a worker starts only from a blob. If that fails, PDF.js runs in this document.
const worker = src => new Promise(resolve => {
	const blob = new Blob([`import ${JSON.stringify(src)};`], { type: 'text/javascript' });
	const w = new Worker(URL.createObjectURL(blob), { type: 'module' });
	w.onmessage = () => resolve(w);
	w.onerror = () => resolve(null);
}).catch(() => null);

async function open() {
	const { GlobalWorkerOptions, getDocument } = await import(at(library + 'legacy/build/pdf.min.mjs'));
	const src = at(library + 'legacy/build/pdf.worker.min.mjs');
	const w = await worker(src);
	if (w) GlobalWorkerOptions.workerPort = w;
	else globalThis.pdfjsWorker = await import(src);
	return getDocument({
		url: at(file), rangeChunkSize: 1 << 18, disableStream: true, disableAutoFetch: true, // fetch only drawn pages
		cMapUrl: at(library + 'cmaps/'), standardFontDataUrl: at(library + 'standard_fonts/'),
		wasmUrl: at(library + 'wasm/'), iccUrl: at(library + 'iccs/'),
	}).promise;
}

async function draw(pdf, place) {
	const page = await pdf.getPage(place.number);
	const { width, height } = page.getViewport({ scale: 1 });
	const scale = Math.min(place.clientWidth * devicePixelRatio / width, Math.sqrt(maxPixels / (width * height)));
	const canvas = document.createElement('canvas');
	const viewport = page.getViewport({ scale });
	canvas.width = viewport.width;
	canvas.height = viewport.height;
	place.style.aspectRatio = `${width} / ${height}`;
	await page.render({ canvas, viewport }).promise;
	const text = document.createElement('div'); // for screen readers
	text.className = 'text';
	for (const { str, hasEOL } of (await page.getTextContent()).items) text.append(str || '', hasEOL ? '\n' : '');
	place.replaceChildren(canvas, text);
	page.cleanup();
}

async function show() {
	const pdf = await open();
	const { width, height } = (await pdf.getPage(1)).getViewport({ scale: 1 });
	let last = Promise.resolve(); // pages are drawn one after the other
	const near = new IntersectionObserver(entries => {
		for (const { target, isIntersecting } of entries) {
			target.near = isIntersecting;
			if (!isIntersecting) {
				target.replaceChildren();
				continue;
			}
			last = last.then(() => target.near && !target.firstChild && draw(pdf, target)).then(() => {
				if (!target.near) target.replaceChildren(); // scrolled away while it was drawn
			}).catch(() => { target.textContent = failed; });
		}
	}, { root: document, rootMargin: '100%' }); // without an origin, a margin needs a root
	for (let number = 1; number <= pdf.numPages; number++) {
		const place = document.createElement('section');
		place.number = number;
		place.ariaLabel = numbered.replace('{page}', number).replace('{pages}', pdf.numPages);
		place.style.aspectRatio = `${width} / ${height}`; // until it is drawn
		document.body.append(place);
		near.observe(place);
	}
	state.textContent = '';
}

show().catch(() => { state.textContent = failed; });
