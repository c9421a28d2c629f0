import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Machines may be slow: no test fails for that.
    testTimeout: 300_000,
    hookTimeout: 600_000,
    cache: false,
  },
});
