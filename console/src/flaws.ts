// What was wrong with the observed bytes, in sentences for people.

export const FLAWS: Record<string, string> = {
  gap: "Bytes are missing inside the request or the response: the kernel's ring was full, or packets were lost. What is shown is what was seen.",
  cut: "The connection or the capture ended before the answer did. The answer may be longer than what is shown.",
  malformed: "Bytes broke the rules of their protocol. Heron kept what it could read.",
  mid_stream: "Heron met this connection in the middle of the exchange: its beginning was not seen.",
  unknown_headers: "Some headers are unknown, because the HTTP/2 connection was older than heron's watch.",
  encoding: "The body's compression could not be undone: it is unknown or damaged. The bytes as sent are kept.",
  shape: "The path is that of a known API, but the JSON is of an unknown shape. The body is kept as sent.",
  bound: "A limit was reached: part of a body or a header was not kept.",
  lost_history: "The WebSocket's compression refers to bytes from before heron looked: undecodable until the client connects again.",
  no_request: "The answer was seen without its request.",
};

export const LOSSES: Record<string, string> = {
  ring_full: "The kernel's ring was full: heron was too slow for a moment. A larger ring helps (ring_mib in the config).",
  read_fault: "Memory of a traced process could not be read.",
  map_full: "A kernel table was full: some connections could not be followed.",
  packet_missing: "The capture lacks packets.",
  snapped: "The capture kept only the head of packets: use a larger snap length.",
  bound: "A reassembly bound was reached.",
};

/// What a health counter's name means is in docs; here it only becomes readable.
export function words(name: string): string {
  return name.replaceAll("_", " ");
}
