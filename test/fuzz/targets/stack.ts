/** Stack files: any YAML is a stack or is refused with where and why; what is read can be sent. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of stack files look so.
import { convertServices } from '../../../cli/stack/convert.ts';
import { readStackFile } from '../../../cli/stack/file.ts';
import { interpolateAll } from '../../../cli/stack/interpolate.ts';
import { parseDotEnv, parseEnvFile } from '../../../cli/stack/load.ts';
import { mergeStackFiles } from '../../../cli/stack/merge.ts';
import { deployOrder } from '../../../cli/stack/order.ts';
import { parseYaml, yamlText } from '../../../cli/stack/yaml.ts';
import { serviceSpecFromDocker } from '../../../daemon/api/docker/serviceSpec.ts';
import { Fields } from '../../../daemon/api/fields.ts';
import type { FuzzTarget } from '../target.ts';
import { one } from '../target.ts';

const FIELDS = [
  'command: ["/bin/sh", "-c", "echo $$HOME"]',
  'environment: {A: b, C: }',
  'environment: ["A=b", C]',
  'ports: ["8080:80", "127.0.0.1:9000-9001:90-91/udp", {target: 80, published: 1, mode: host}]',
  'volumes: ["data:/d:ro", "/h:/h", {type: tmpfs, target: /t, tmpfs: {size: 10m}}]',
  'networks: {net: {aliases: [x]}}',
  'deploy: {replicas: 3, resources: {limits: {cpus: "0.5", memory: 10M}}, mode: replicated}',
  'deploy: {update_config: {parallelism: 2, delay: 5s, order: start-first}}',
  'deploy: {placement: {constraints: [node.role == manager], max_replicas_per_node: 1}}',
  'healthcheck: {test: [CMD, /x], interval: 1m30s, retries: 3}',
  'secrets: [s, {source: s, target: t, mode: 0400}]',
  'depends_on: [db]',
  'extra_hosts: ["a:1.2.3.4"]',
  'ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}',
  'logging: {driver: json-file, options: {max-size: 10m}}',
  'image: "a:${TAG:-1}"',
  'user: "1:2"',
];
const TAIL =
  '\nvolumes: {data: }\nnetworks: {net: {driver: overlay}}\nsecrets: {s: {external: true}}\n';

export const target: FuzzTarget = {
  words: [
    ...['services:', '\n  ', '${', '${A:-', '}', '&a ', '*a', '<<: ', '!!binary ', '|-\n', '- '],
    ...['8080:80', '.inf', '0o7', '1e400', 'null', '%', '\t', '"', "'", '{', '[', 'x-a: '],
  ],
  generate(random) {
    const fields = Array.from({ length: random.below(6) }, () => one(random, FIELDS));
    const lines = [
      'services:',
      '  web:',
      '    image: web',
      ...fields.map((field) => `    ${field}`),
    ];
    return Buffer.from(`${lines.join('\n')}\n  db: {image: db}${TAIL}`);
  },
  run(input) {
    const text = Buffer.from(input).toString();
    const variables = (name: string): string | undefined => (name === 'A' ? '${B}' : undefined);
    parseDotEnv(text, variables);
    parseEnvFile(text);
    const file = readStackFile(interpolateAll(parseYaml(text, 'f'), variables), '/base', []);
    const merged = mergeStackFiles([file, file]);
    deployOrder(merged);
    parseYaml(yamlText(merged), 'again');
    for (const spec of convertServices('stack', file).values()) {
      serviceSpecFromDocker(new Fields(JSON.parse(JSON.stringify(spec))));
    }
  },
};
