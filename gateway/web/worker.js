'use strict';
// Decrypts in the browser what the server never sees in clear. A page hands over a key and what it opens (postMessage), and is
// told where to go; the browser fetches that address, and the answer is made here, block by block, while the ciphertext arrives.
// No block is decrypted before its hash has matched the name that its parent gave it, and the link names the first (docs/format.md).
// So what is wrong ends in a download that fails, and nothing is written down: jobs live in this worker's memory.
(() => {
	const jobs = new Map();
	const maxBlock = 2 << 20, cidLength = 36, dagPB = 0x70, raw = 0x55;

	// Every message keeps the worker awake for a while longer: a page that waits for a download sends such as have no key, and
	// learns by the answer that its job is not lost. A worker that was ended and started anew knows nothing of it.
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
		if (!job || job.taken) return; // the server says what is wrong
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

	// The browser pulls: what it does not take is not fetched.
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

	// Follows the tree depth first, which is the order of the blocks in the CAR, and gives the leaves in clear.
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
				if (end % 16 || (end += bytes.byteLength) > job.size) throw new Error('the file is not of its size');
				if (bytes.byteLength) yield { bytes: new Uint8Array(bytes), end };
			}
			if (end !== job.size) throw new Error('the file is not of its size');
		} finally {
			await blocks.return();
		}
	}

	// The next block, which must be the one that was asked for.
	async function next(blocks, want) {
		const { done, value } = await blocks.next();
		if (done) throw new Error('the file is cut off');
		if (!same(value.cid, want)) throw new Error('another block was sent');
		const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', value.data));
		if (!same(hash, want.subarray(4))) throw new Error('a block is damaged');
		return { data: value.data, codec: want[1] };
	}

	const same = (a, b) => a.length === b.length && a.every((x, i) => x === b[i]);

	// The sections of a CARv1: a length, a CID, a block. The header comes first and is passed over: it proves nothing.
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
				if (!rest.length && !await more()) throw new Error('the file is cut off');
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
			throw new Error('no CAR');
		}
		try {
			await take(check(await length(), 1));
			while (rest.length || await more()) {
				const n = check(await length(), cidLength);
				yield { cid: await take(cidLength), data: await take(n - cidLength) };
			}
		} finally {
			await reader.cancel().catch(() => {}); // it may have failed already, and that was said
		}
	}

	function check(n, least) {
		if (n < least || n > maxBlock + cidLength) throw new Error('no CAR');
		return n;
	}

	// The links of a dag-pb node (https://ipld.io/specs/codecs/dag-pb/spec/): field 2, each of a CID, a name, a size.
	function node(bytes) {
		const links = [];
		for (const [field, link] of fields(bytes)) {
			if (field !== 2) continue;
			const of = new Map(fields(link));
			const cid = of.get(1);
			if (!cid || cid.length !== cidLength || cid[0] !== 1 || cid[1] !== raw && cid[1] !== dagPB || cid[2] !== 0x12 || cid[3] !== 32) throw new Error('no block of ours');
			links.push({ cid, name: new TextDecoder().decode(of.get(2) || new Uint8Array(0)) });
		}
		return links;
	}

	function entry(links, name) {
		const found = links.filter(link => link.name === name);
		if (found.length !== 1) throw new Error('no object of ours');
		return found[0].cid;
	}

	// The fields of a protobuf message that hold bytes; numbers are passed over.
	function* fields(bytes) {
		let at = 0;
		const varint = () => {
			for (let n = 0, scale = 1; at < bytes.length && scale < 2 ** 53; scale *= 128) {
				const b = bytes[at++];
				n += (b & 127) * scale;
				if (b < 128) return n;
			}
			throw new Error('no block of ours');
		};
		while (at < bytes.length) {
			const key = varint(), n = varint();
			if (key % 8 === 0) continue;
			if (key % 8 !== 2 || n > bytes.length - at) throw new Error('no block of ours');
			yield [Math.floor(key / 8), bytes.subarray(at, at += n)];
		}
	}
})();
