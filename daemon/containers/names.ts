/** Names for containers that were given none, in Docker's manner: 'quiet_euler'. */
import type { Random } from '../../base/random.ts';

const LEFT = (
  'able agile amber ample apt bold brave bright brisk calm candid clear clever cosy crisp ' +
  'deft eager early exact fair firm fleet fond frank fresh gentle glad golden grand handy ' +
  'happy hardy honest humble jolly keen kind light lively loyal lucid mellow merry mild ' +
  'modest neat nimble noble patient placid plain polite proud quick quiet ready robust royal ' +
  'serene sharp silent sincere smart solid sound spry stable steady still stout sunny swift ' +
  'tender tidy trusty valiant vivid warm wise witty'
).split(' ');

const RIGHT = (
  'abel ampere archimedes babbage banach bell bernoulli bohr boole borel brahe cantor carson ' +
  'cauchy cerf curie darwin dijkstra dirac edison einstein elion euclid euler faraday fermat ' +
  'fermi feynman franklin galileo galois gauss germain goodall hamilton hawking herschel ' +
  'hilbert hopper hubble hypatia kepler knuth kovalevsky lagrange lamarr lamport laplace ' +
  'leibniz liskov lovelace maxwell meitner mendel mirzakhani morse nash newton noether pascal ' +
  'pasteur perlman poincare ramanujan riemann ritchie shannon tesla thompson torvalds turing ' +
  'volta wiles wozniak yalow'
).split(' ');

const TRIES = 20;

/** One that `isTaken` does not know; with a number behind it once those are scarce. */
export function makeName(random: Random, isTaken: (name: string) => boolean): string {
  for (let tries = 0; ; tries += 1) {
    const pair = `${LEFT[random.below(LEFT.length)]}_${RIGHT[random.below(RIGHT.length)]}`;
    const name = tries < TRIES ? pair : `${pair}${random.below(1_000_000)}`;
    if (!isTaken(name)) return name;
  }
}

export const CONTAINER_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
