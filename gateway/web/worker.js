'use strict';
// Decrypts downloads in the browser, so that the server gets no key. A page posts a job: a key, and
// what to decrypt. The browser then fetches the job's address, and this worker answers it, block by
// block, while the ciphertext arrives. A block is decrypted only if its hash matches the CID that
// its parent gives, and the first CID is the link's (docs/format.md), so wrong ciphertext fails the
// download. Jobs and keys are only in this worker's memory.
(() => {
	const jobs = new Map();
	const maxBlock = 2 << 20, cidLength = 36, dagPB = 0x70, raw = 0x55;

	// During a download the page sends messages without a key: each keeps the worker awake, and the
	// answer says that the job still exists. A worker that was ended and restarted has no jobs.
	addEventListener('message', event => {
		const job = event.data;
		if (!job.key) {
			jobs.get(job.id)?.port.postMessage({ awake: true });
			return;
		}
		jobs.set(job.id, { ...job, port: event.ports[0] });
		event.ports[0].postMessage({ ready: true });
	});

	addEventListener('fetch', event => {
		const id = new URL(event.request.url).pathname.slice(new URL(registration.scope).pathname.length).split('/')[0];
		const job = jobs.get(id);
		if (!job || job.taken) return; // the server answers with an error
		job.taken = true;
		event.respondWith(answer(job));
	});

	function end(job, how) {
		jobs.delete(job.id);
		job.port.postMessage(how);
	}

	async function answer(job) {
		try {
			const ciphertext = await fetch(job.source, { cache: 'no-store', credentials: 'omit', redirect: 'error' });
			if (!ciphertext.ok) throw new Error('status ' + ciphertext.status);
			return new Response(stream(job, ciphertext.body), { headers: {
				'Content-Type': 'application/octet-stream',
				'Content-Length': String(job.size),
				'Content-Disposition': "attachment; filename*=UTF-8''" + encodeURIComponent(job.name).replace(/['()*]/g, c => '%' + c.charCodeAt(0).toString(16)),
				'Content-Security-Policy': "default-src 'none'; sandbox",
				'X-Content-Type-Options': 'nosniff',
			} });
		} catch (error) {
			end(job, { failed: String(error) });
			return Response.error();
		}
	}

	// Fetches only as much as the browser takes.
	function stream(job, ciphertext) {
		const plain = decrypted(job, ciphertext);
		return new ReadableStream({
			async pull(controller) {
				try {
					const { done, value } = await plain.next();
					if (done) {
						controller.close();
						end(job, { done: true });
						return;
					}
					controller.enqueue(value.bytes);
					job.port.postMessage({ written: value.end });
				} catch (error) {
					controller.error(error);
					end(job, { failed: String(error) });
				}
			},
			cancel() {
				end(job, { failed: 'cancelled' });
				return plain.return();
			},
		}, { highWaterMark: 0 });
	}

	// Yields the decrypted leaves of the tree, depth first: the order of the blocks in the CAR.
	async function* decrypted(job, ciphertext) {
		const blocks = sections(ciphertext);
		try {
			const directory = await next(blocks, job.cid);
			const open = [entry(node(directory.data), 'data')];
			let end = 0;
			while (open.length) {
				const block = await next(blocks, open.pop());
				if (block.codec === dagPB) {
					open.push(...node(block.data).map(link => link.cid).reverse());
					continue;
				}
				const counter = new Uint8Array(16);
				new DataView(counter.buffer).setBigUint64(8, BigInt(end) / 16n);
				const bytes = await crypto.subtle.decrypt({ name: 'AES-CTR', counter, length: 128 }, job.key, block.data);
				if (end % 16 || (end += bytes.byteLength) > job.size) throw new Error('the file has the wrong size');
				if (bytes.byteLength) yield { bytes: new Uint8Array(bytes), end };
			}
			if (end !== job.size) throw new Error('the file has the wrong size');
		} finally {
			await blocks.return();
		}
	}

	// Returns the next block, which must have the CID that is wanted.
	async function next(blocks, want) {
		const { done, value } = await blocks.next();
		if (done) throw new Error('the file is incomplete');
		if (!same(value.cid, want)) throw new Error('unexpected block');
		const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', value.data));
		if (!same(hash, want.subarray(4))) throw new Error('a block is damaged');
		return { data: value.data, codec: want[1] };
	}

	const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);

	// Yields the sections of a CARv1: length, CID, block. The header proves nothing: skipped.
	async function* sections(stream) {
		const reader = stream.getReader();
		let rest = new Uint8Array(0);
		async function more() {
			const { done, value } = await reader.read();
			if (!done) rest = value;
			return !done;
		}
		async function take(n) {
			const bytes = new Uint8Array(n);
			for (let have = 0; have < n;) {
				if (!rest.length && !await more()) throw new Error('the file is incomplete');
				const part = rest.subarray(0, n - have);
				bytes.set(part, have);
				have += part.length;
				rest = rest.subarray(part.length);
			}
			return bytes;
		}
		async function length() {
			for (let n = 0, shift = 0; shift < 28; shift += 7) {
				const [b] = await take(1);
				n |= (b & 127) << shift;
				if (b < 128) return n;
			}
			throw new Error('malformed CAR');
		}
		try {
			await take(check(await length(), 1));
			while (rest.length || await more()) {
				const n = check(await length(), cidLength);
				yield { cid: await take(cidLength), data: await take(n - cidLength) };
			}
		} finally {
			await reader.cancel().catch(() => {}); // an error of the reader was thrown before
		}
	}

	function check(n, least) {
		if (n < least || n > maxBlock + cidLength) throw new Error('malformed CAR');
		return n;
	}

	// Returns the links of a dag-pb node: field 2, each with a CID, a name and a size.
	function node(bytes) {
		const links = [];
		for (const [field, link] of fields(bytes)) {
			if (field !== 2) continue;
			const of = new Map(fields(link));
			const cid = of.get(1);
			if (!cid || cid.length !== cidLength || cid[0] !== 1 || cid[1] !== raw && cid[1] !== dagPB || cid[2] !== 0x12 || cid[3] !== 32) throw new Error('malformed block');
			links.push({ cid, name: new TextDecoder().decode(of.get(2) || new Uint8Array(0)) });
		}
		return links;
	}

	function entry(links, name) {
		const found = links.filter(link => link.name === name);
		if (found.length !== 1) throw new Error('malformed object');
		return found[0].cid;
	}

	// Yields the fields of a protobuf message that hold bytes, and skips numbers.
	function* fields(bytes) {
		let at = 0;
		const varint = () => {
			for (let n = 0, scale = 1; at < bytes.length && scale < 2 ** 53; scale *= 128) {
				const b = bytes[at++];
				n += (b & 127) * scale;
				if (b < 128) return n;
			}
			throw new Error('malformed block');
		};
		while (at < bytes.length) {
			const key = varint(), n = varint();
			if (key % 8 === 0) continue;
			if (key % 8 !== 2 || n > bytes.length - at) throw new Error('malformed block');
			yield [Math.floor(key / 8), bytes.subarray(at, at += n)];
		}
	}
})();
