// Special functions in double precision: the normal law, the incomplete beta function, and what is built on them.
//
// The beta function is never taken alone. x^a y^b / B(a, b) is small differences of large numbers; here it is written as a
// deviance (which is 0 at the mean, exactly) and corrections of Stirling's formula, so that it keeps its digits for 10^7 draws.

const SQRT_TAU = Math.sqrt(2 * Math.PI);
const HALF_LOG_TAU = 0.5 * Math.log(2 * Math.PI);

/** The standard normal distribution function, precise in the lower tail. */
export function normal(z) {
  if (z === Infinity) return 1;
  if (z < -39) return 0;
  if (z > 3) return 1 - normal(-z);
  const density = Math.exp(-0.5 * z * z) / SQRT_TAU;
  return z < -3 ? density * mills(-z) : 0.5 + density * oddSeries(z);
}

/** z + z^3/3 + z^5/15 + ...: what the density has to be multiplied with. */
function oddSeries(z) {
  let term = z;
  let sum = z;
  for (let k = 3; Math.abs(term) > 1e-18 * Math.abs(sum); k += 2) {
    term *= (z * z) / k;
    sum += term;
  }
  return sum;
}

/** The upper tail over the density, by Laplace's continued fraction, from its far end. */
function mills(z) {
  let found = z;
  for (let k = 160; k >= 1; k--) found = z + k / found;
  return 1 / found;
}

/** The quantile of a probability, precise where that is small: for one near 1 hand in its complement and change the sign. */
export function normalQuantile(p) {
  if (!(p > 0)) return -Infinity;
  if (p >= 1) return Infinity;
  if (p > 0.5) return -normalQuantile(1 - p); // exact: p is at least one half
  let z = p > 0.02 ? (p - 0.5) * SQRT_TAU : -Math.sqrt(-2 * Math.log(p));
  for (let i = 0; i < 60; i++) {
    const value = normal(z);
    // Newton's step for the logarithm, which is concave: it converges from the left and from afar.
    const step = (value * Math.log(value / p) * SQRT_TAU) / Math.exp(-0.5 * z * z);
    z -= step;
    if (Math.abs(step) < 1e-15 * Math.max(1, Math.abs(z))) break;
  }
  return z;
}

/** log Gamma(x) less Stirling's formula (x - 1/2) log x - x + log(2 pi) / 2. */
function stirlingRest(x) {
  if (x < 12) {
    const next = stirlingRest(x + 1);
    // of log Gamma(x) = log Gamma(x + 1) - log x
    return next + (x + 0.5) * Math.log1p(1 / x) - 1;
  }
  const r = 1 / (x * x);
  return (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r * (1 / 1188 - (r * 691) / 360360))))) / x;
}

/** log(1 + u) - u, precise at 0. */
function logRest(u) {
  if (Math.abs(u) > 0.3) return Math.log1p(u) - u;
  // log(1 + u) = 2 artanh(s) with s = u / (2 + u), and u = 2 s + s u
  const s = u / (2 + u);
  const square = s * s;
  let power = square;
  let sum = 0;
  for (let k = 3; power > 1e-18 * square; k += 2, power *= square) sum += power / k;
  return 2 * s * sum - s * u;
}

/** log of x^a y^b / B(a, b), with y = 1 - x handed in as it is known best. */
export function logBetaTerm(a, b, x, y) {
  const sum = a + b;
  // Off the mean a / (a + b), by the smaller of the two numbers, which has more digits.
  const off = x < y ? x * sum - a : b - y * sum;
  const deviance = a * logRest(off / a) + b * logRest(-off / b);
  return deviance + 0.5 * Math.log(a * (b / sum)) - HALF_LOG_TAU - stirlingRest(a) - stirlingRest(b) + stirlingRest(sum);
}

/** The regularised incomplete beta function I_x(a, b), with y = 1 - x. */
export function betaShare(a, b, x, y) {
  if (x <= 0) return 0;
  if (y <= 0) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - betaShare(b, a, y, x);
  return Math.exp(logBetaTerm(a, b, x, y)) / (a * betaFraction(a, b, x));
}

/** The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method. */
function betaFraction(a, b, x) {
  const tiny = 1e-300;
  let [found, c, d] = [1, 1, 0];
  for (let j = 1; j < 200_000; j++) {
    const m = j >> 1;
    const term = j & 1 ? (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)) : (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 + term * d || tiny;
    c = 1 + term / c || tiny;
    d = 1 / d;
    found *= c * d;
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return found;
}
