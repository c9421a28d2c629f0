import { fileURLToPath } from "node:url";

import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { alias: { "@diseq/client": fileURLToPath(new URL("../typescript/src/index.ts", import.meta.url)) } },
  test: {
    include: ["test/**/*.test.ts"],
    // Machines may be slow: no test fails for that.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    fileParallelism: false,
    cache: false,
  },
});
