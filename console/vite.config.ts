import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The console is embedded into the binary and served under a strict content policy: no inline scripts, nothing from
// elsewhere, and file names that carry a hash.
export default defineConfig({
  plugins: [react()],
  build: { target: "es2022", outDir: "dist", assetsInlineLimit: 0, modulePreload: { polyfill: false }, sourcemap: false },
  server: { proxy: { "/api": "http://127.0.0.1:3000", "/metrics": "http://127.0.0.1:3000" } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
