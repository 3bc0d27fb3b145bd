import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const heron = process.env["HERON_API"] ?? "http://127.0.0.1:3000";

// The console is embedded into the binary and served under a strict content policy: no inline scripts, nothing from
// elsewhere, and file names that carry a hash.
export default defineConfig({
  plugins: [react()],
  build: { target: "es2022", outDir: "dist", assetsInlineLimit: 0, modulePreload: { polyfill: false }, sourcemap: false },
  // `npm run dev` beside a running heron; HERON_API names another one.
  server: { proxy: { "/api": heron, "/metrics": heron } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
