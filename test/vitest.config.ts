import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 120_000,
    hookTimeout: 180_000,
    pool: 'forks',
    // Much of the time is waiting for servers, daemons and terminals: one more than two cores.
    maxWorkers: 3,
    // Real servers, kills and daemons meet real time: on a busy machine one may need a second try, and the report says so.
    retry: process.env.CI === 'true' ? 1 : 0,
    reporters: ['default'],
  },
});
