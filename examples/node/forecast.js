// Streams a sensor's samples through a session of the model `gait`, with the contract and gRPC alone.
//
//     npm install
//     node forecast.js [HOST:PORT] < samples.csv
//
// Each input line is one sample, numbers separated by commas; each output line is the forecast of the next
// sample. The server keeps the session's state, so each message carries one sample.
// proto/statewise/v1/sequence.proto describes every field.

import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const here = fileURLToPath(new URL(".", import.meta.url));
const contract = process.env.STATEWISE_PROTO ?? fileURLToPath(new URL("../../proto", import.meta.url));

const definition = protoLoader.loadSync("statewise/v1/sequence.proto", {
  includeDirs: [contract, here],
  keepCase: true,
  longs: String, // handles and positions need all 64 bits
  oneofs: true, // `reply.result` is the name of the field that is set
  arrays: true, // `errors` is present even if empty
});
const { SequenceService } = grpc.loadPackageDefinition(definition).statewise.v1;

/** Sends all operations on sessions over one stream. Each reply repeats the number of its request. */
class SessionStream {
  constructor(client) {
    this.waiting = new Map();
    this.lastId = 0;
    this.call = client.SessionStream();
    this.call.on("data", (reply) => this.answer(reply));
    this.call.on("error", (error) => this.failAll(error));
    this.call.on("end", () => this.failAll(new Error("the server ended the stream")));
  }

  /** Sends one operation, such as { step: {...} }; returns its reply. */
  ask(operation) {
    const requestId = String(++this.lastId);
    return new Promise((resolve, reject) => {
      this.waiting.set(requestId, { resolve, reject });
      this.call.write({ request_id: requestId, ...operation });
    });
  }

  end() {
    this.waiting.clear();
    this.call.end();
  }

  answer(reply) {
    const waiter = this.waiting.get(reply.request_id);
    if (!waiter) return; // a notice of the server that answers no request
    this.waiting.delete(reply.request_id);
    const result = reply[reply.result];
    const refused = reply.result === "error" ? result : result.errors[0];
    if (refused) waiter.reject(new Error(refused.message));
    else waiter.resolve(result);
  }

  failAll(error) {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}

/** Packs a column of a step: little-endian integers, one a row. Steps have one row here. */
function packedUint64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** Encodes a tensor: type, shape, and elements as little-endian bytes. */
function toTensor(sample) {
  const data = Buffer.alloc(4 * sample.length);
  sample.forEach((value, index) => data.writeFloatLE(value, 4 * index));
  return { dtype: "DATA_TYPE_FLOAT32", shape: [1, sample.length], data };
}

function fromTensor(tensor) {
  return Array.from({ length: tensor.data.length / 4 }, (_, index) => tensor.data.readFloatLE(4 * index));
}

async function main(target) {
  const client = new SequenceService(target, grpc.credentials.createInsecure());
  const stream = new SessionStream(client);
  const opened = await stream.ask({ open: { model: "gait", session_ids: [`node-${process.pid}`] } });
  const handles = packedUint64(opened.sessions[0].handle);
  let position = 0n;
  for await (const line of createInterface({ input: process.stdin })) {
    const sample = line.split(",").map(Number);
    // The position lets the server recognise a repeated step, which it applies once.
    const step = { handles, positions: packedUint64(position), inputs: { x: toTensor(sample) } };
    const reply = await stream.ask({ step });
    console.log(fromTensor(reply.outputs.y).map((value) => value.toFixed(3)).join(","));
    position += 1n;
  }
  await stream.ask({ close: { handles } });
  stream.end();
  client.close();
}

main(process.argv[2] ?? "127.0.0.1:50051").catch((error) => {
  console.error(error.message);
  process.exit(1);
});
