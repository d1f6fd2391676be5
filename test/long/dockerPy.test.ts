/**
 * The integration tests of Docker's Python SDK, unchanged, against a daemon of ours: those about
 * swarms, services, secrets, configs and nodes, and those about networks, volumes, containers and
 * images. Each test passes but those named here with a reason. DOCKER_PY_CHECKOUT is a checkout of
 * docker-py at tag 5.0.3 (or a directory with its tests/); PEER=1 runs them against Debian's
 * dockerd too and prints what fails there.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { hasDockerd, startDockerds } from '../support/dockerd.ts';
import {
  counts,
  MIRROR_FLAGS,
  type Result,
  runSuites,
  type Subject,
  serveImages,
  whyNot,
} from '../support/dockerPy.ts';
import { killed } from '../support/processes.ts';
import { startStandalone } from '../support/standalone.ts';

const CHECKOUT = process.env['DOCKER_PY_CHECKOUT'];
const PEER = process.env['PEER'] === '1';
/** ONLY=api_swarm_test,... runs these and compares with the same lists. */
const ONLY = process.env['ONLY']?.split(',');

const SWARM = [
  ...['api_swarm_test', 'api_service_test', 'api_secret_test', 'api_config_test'],
  ...['models_swarm_test', 'models_services_test', 'models_nodes_test'],
];
const OTHERS = [
  ...['api_network_test', 'models_networks_test', 'api_volume_test', 'models_volumes_test'],
  ...['api_container_test', 'models_containers_test', 'api_exec_test', 'api_healthcheck_test'],
  ...['client_test', 'regression_test', 'api_client_test', 'errors_test'],
  ...['api_image_test', 'models_images_test'],
];

const LINKS = 'links of the default bridge are not built: networks of users have names and aliases';
const COMMIT = 'docker commit is not built: docker export and import';
const BUILD = 'docker build is not built; it says what to do instead';
const SINCE_25 = 'the words are those of Docker 25 and later';

/** Tests that do not pass, by their last part, and why. */
const DIFFERS = new Map<string, string>([
  ['TestNetworks::test_connect_with_links', LINKS],
  ['TestNetworks::test_create_with_links', LINKS],
  ['CreateContainerTest::test_create_with_links', LINKS],
  ['LinkTest::test_remove_link', LINKS],
  ['TestNetworks::test_create_check_duplicate', 'as Docker 25 and later: names are never doubled'],
  ['TestNetworks::test_create_network_ingress', 'there is no ingress network to replace'],
  ['TestNetworks::test_create_with_linklocal_ips', 'LinkLocalIPs is refused by its path'],
  ['CreateContainerTest::test_create_with_restart_policy', SINCE_25],
  ['ErrorsTest::test_api_error_parses_json', SINCE_25],
  ['ContainerCPUTest::test_create_with_runtime', 'the runtime is tsswarm, and says so'],
  ['ContainerTest::test_create_with_volume_driver', 'there are no volume plugins'],
  ['ContainerTest::test_exec_run_failed', 'as Docker 24 and later: 127 when a program is missing'],
  [
    'ContainerCollectionTest::test_run_with_image_that_does_not_exist',
    'wants Docker Hub; dockerd fails it here too',
  ],
  ['ImageCollectionTest::test_pull_with_sha', 'wants Docker Hub; dockerd fails it here too'],
  ['UnixconnTest::test_resource_warnings', 'the SDK itself warns under this Python'],
  ['ContainerTest::test_commit', COMMIT],
  ['CommitTest::test_commit', COMMIT],
  ['CommitTest::test_commit_with_changes', COMMIT],
  ['RemoveImageTest::test_remove', COMMIT],
  ['ImageCollectionTest::test_build', BUILD],
  ['ImageCollectionTest::test_build_with_error', BUILD],
  ['ImageCollectionTest::test_build_with_multiple_success', BUILD],
  ['ImageCollectionTest::test_build_with_success_build_output', BUILD],
]);

/** Tests that now and then do not pass, and why. */
const RACES = new Map<string, string>([
  [
    'SwarmTest::test_inspect_node',
    'it asks twice for a version, right after init; the first report of the node may lie between',
  ],
]);

const skip = whyNot(CHECKOUT) ?? false;

test('the tests about swarms pass against a daemon of ours', { skip }, async (context) => {
  await againstOurs(context, SWARM);
});

test('the tests about one host pass but those named', { skip }, async (context) => {
  await againstOurs(context, OTHERS);
});

test('the same tests against dockerd, for comparison', {
  skip: skip || (PEER ? !hasDockerd() && 'no dockerd here' : 'PEER=1 asks for it'),
}, async (context) => {
  const peer = await startDockerds(1, MIRROR_FLAGS);
  context.after(() => peer.stop());
  for (const suites of [SWARM, OTHERS]) {
    const results = await run(peer.hosts[0], wanted(suites));
    say(context, 'dockerd', results);
  }
});

async function againstOurs(context: TestContext, suites: readonly string[]): Promise<void> {
  const daemon = await startStandalone(...MIRROR_FLAGS);
  context.after(() => daemon.stop());
  // Hosts of a swarm have an address that others could reach.
  for (const command of [
    'link add eth0 type veth peer name eth1',
    'address add 10.97.0.1/24 dev eth0',
    ...['link set eth0 up', 'link set eth1 up'],
  ]) {
    const { code, stderr } = await daemon.inside('ip', ...command.split(' '));
    assert.equal(code, 0, stderr);
  }
  const results = await run(daemon, wanted(suites));
  say(context, 'tsswarm', results);
  const failed = results.filter(({ outcome }) => outcome === 'failed');
  assert.deepEqual(
    failed.map(({ name }) => name).filter((name) => knownReason(name) === undefined),
    [],
    'tests that fail and are not named here',
  );
  const passed = results.filter(({ outcome }) => outcome === 'passed');
  assert.deepEqual(
    passed.map(({ name }) => lastPart(name)).filter((name) => DIFFERS.has(name)),
    [],
    'tests that pass and are named here as failing',
  );
}

async function run(subject: Subject, suites: readonly string[]): Promise<Result[]> {
  if (suites.length === 0) return [];
  const scratch = mkdtempSync(join(tmpdir(), 'docker-py-'));
  const registry = await serveImages(subject, scratch);
  try {
    return await runSuites(CHECKOUT ?? '', subject, suites, scratch);
  } finally {
    await killed(registry);
    rmSync(scratch, { recursive: true, force: true });
  }
}

function wanted(suites: readonly string[]): string[] {
  return suites.filter((suite) => ONLY === undefined || ONLY.includes(suite));
}

function knownReason(name: string): string | undefined {
  return DIFFERS.get(lastPart(name)) ?? RACES.get(lastPart(name));
}

function lastPart(name: string): string {
  return name.slice(name.indexOf('::') + 2);
}

function say(context: TestContext, against: string, results: readonly Result[]): void {
  context.diagnostic(`${against}: ${counts(results)}`);
  for (const { name, outcome, reason } of results) {
    if (outcome !== 'failed') continue;
    const why = knownReason(name);
    context.diagnostic(`${why === undefined ? 'FAILED' : 'known'} ${name}: ${why ?? reason}`);
  }
}
