// Imports from the browser: files in pieces, then the commit with its progress.
import type { Snapshot } from "../gen/countersign/control/v1/snapshot_service_pb";
import { nameOf, parent, snapshots, traffic } from "./rpc";

/** The largest piece that the server takes, and how much goes into one call. */
const PIECE = 1024 * 1024;
const CALL = 3 * 1024 * 1024;

export interface Dropped {
  path: string;
  file: File;
}

export interface Progress {
  stage: "upload" | "read" | "store";
  done: number;
  total: number;
  pairs: number;
}

interface Entry {
  isFile: boolean;
  isDirectory: boolean;
  fullPath: string;
  file(done: (file: File) => void, failed: (error: unknown) => void): void;
  createReader(): { readEntries(done: (entries: Entry[]) => void, failed: (error: unknown) => void): void };
}

/** All files of what was dropped, folders included. */
export async function dropped(transfer: DataTransfer): Promise<Dropped[]> {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry() as unknown as Entry | null);
  if (entries.every((entry) => entry === null)) return Array.from(transfer.files, (file) => ({ path: file.name, file }));
  const found: Dropped[] = [];
  for (const entry of entries) if (entry) await walk(entry, found);
  return sorted(found);
}

/** The files that were chosen in a dialog. */
export function chosen(files: FileList): Dropped[] {
  return sorted(Array.from(files, (file) => ({ path: file.webkitRelativePath || file.name, file })));
}

function sorted(files: Dropped[]): Dropped[] {
  return files.filter(({ path }) => !/(^|\/)\.[^/]+$/.test(path)).sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function walk(entry: Entry, found: Dropped[]): Promise<void> {
  if (entry.isFile) {
    const file = await new Promise<File>((done, failed) => entry.file(done, failed));
    found.push({ path: entry.fullPath.replace(/^\//, ""), file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise<Entry[]>((done, failed) => reader.readEntries(done, failed));
    if (batch.length === 0) return;
    for (const one of batch) await walk(one, found);
  }
}

/** An id that a snapshot may have, made of a file's name. */
export function idFrom(files: Dropped[]): string {
  const path = files[0]?.path ?? "";
  const base = (path.includes("/") ? path.slice(0, path.indexOf("/")) : path.replace(/\.[^.]+$/, "")).toLowerCase();
  return base.replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "").slice(0, 63) || "recording";
}

export interface Wanted {
  id: string;
  files: Dropped[];
  strict: boolean;
  filter: string;
  redact: boolean;
  stripSignatures: boolean;
}

/** Uploads and commits. A snapshot that comes to nothing is removed again. */
export async function importFiles(wanted: Wanted, tell: (progress: Progress) => void, signal: AbortSignal): Promise<Snapshot> {
  const name = nameOf("snapshots", wanted.id);
  await snapshots.createSnapshot({ parent: parent(), snapshotId: wanted.id, snapshot: { displayName: wanted.id } }, { signal });
  try {
    const uploadId = crypto.randomUUID();
    await upload(name, uploadId, wanted.files, tell, signal);
    return await commit(name, uploadId, wanted, tell, signal);
  } catch (thrown) {
    await snapshots.deleteSnapshot({ name }).catch(() => undefined);
    throw thrown;
  }
}

async function upload(name: string, uploadId: string, files: Dropped[], tell: (progress: Progress) => void, signal: AbortSignal) {
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  let sequence = 0n;
  let done = 0;
  let pieces: { sequence: bigint; path: string; data: Uint8Array }[] = [];
  let size = 0;
  const send = async () => {
    if (pieces.length === 0) return;
    await traffic.appendPieces({ name, uploadId, pieces }, { signal });
    done += size;
    [pieces, size] = [[], 0];
    tell({ stage: "upload", done, total, pairs: 0 });
  };
  tell({ stage: "upload", done, total, pairs: 0 });
  for (const { path, file } of files) {
    for (let start = 0; start === 0 || start < file.size; start += PIECE) {
      const data = new Uint8Array(await file.slice(start, start + PIECE).arrayBuffer());
      if (size + data.length > CALL || pieces.length >= 500) await send();
      sequence += 1n;
      pieces.push({ sequence, path, data });
      size += data.length;
    }
  }
  await send();
}

async function commit(name: string, uploadId: string, wanted: Wanted, tell: (progress: Progress) => void, signal: AbortSignal) {
  const { strict, filter, redact, stripSignatures } = wanted;
  const request = { name, uploadId, strict, filter, dlpConfig: redact ? "standard" : "", stripSignatures };
  let committed: Snapshot | undefined;
  for await (const { event } of snapshots.commitSnapshot(request, { signal })) {
    if (event.case === "snapshot") committed = event.value;
    if (event.case === "progress") {
      const { bytesDone, bytesTotal, pairs, pairsStored } = event.value;
      const storing = pairsStored > 0n;
      tell({
        stage: storing ? "store" : "read",
        done: Number(storing ? pairsStored : bytesDone),
        total: Number(storing ? pairs : bytesTotal),
        pairs: Number(pairs),
      });
    }
  }
  if (!committed) throw new Error("the import ended without a result");
  return committed;
}
