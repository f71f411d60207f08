// The curves of the figures with sliders: for each figure a function of its sliders that returns its panels, a panel
// being a list of lines, and a line a list of points [x, y]. Nothing here knows of a page.
// tests/docs/test_figure_formulas.py runs this file and compares every point with the functions of grape_verified.
const figureFormulas = (() => {
  "use strict"

  const range = count => Array.from({ length: count }, (_, k) => k)
  const grid = (start, end, points) => range(points).map(k => start + ((end - start) * k) / (points - 1))
  const line = (xs, formula) => xs.map(x => [x, formula(x)])
  const sum = numbers => numbers.reduce((total, number) => total + number, 0)
  const between = (x, low, high) => Math.min(Math.max(x, low), high)
  const sigmoid = x => 1 / (1 + Math.exp(-x))
  const softplus = x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))) // −log σ(−x)

  // The ratio of a token: surrogates, and their slopes in log π.

  const clipped = (ratio, A, low, high, dual) =>
    A >= 0 ? Math.min(ratio, 1 + high) : between(ratio, 1 - low, dual)
  const surrogate = (ratio, A, low, high, dual = Infinity) => A * clipped(ratio, A, low, high, dual)
  const clipSlope = (ratio, A, low, high, dual = Infinity) =>
    clipped(ratio, A, low, high, dual) === ratio ? ratio * A : 0
  const cispoSlope = (ratio, A, cap) => Math.min(ratio, 1 + cap) * A
  const sapoSlope = (ratio, A, tau) => {
    const soft = sigmoid(tau * (ratio - 1))
    return 4 * soft * (1 - soft) * ratio * A
  }

  const upTo2 = grid(0.0025, 1.9975, 400)
  const upTo4 = grid(0.005, 3.995, 400)
  const upTo5 = grid(0.005, 4.995, 500)

  const ppo_clip = ({ low, high }) =>
    [1, -1].map(A => [
      line(upTo2, ratio => surrogate(ratio, A, low, high)),
      line(upTo2, ratio => clipSlope(ratio, A, low, high)),
    ])

  const dual_clip = ({ dual }) =>
    [surrogate, clipSlope].map(formula => [
      line(upTo5, ratio => formula(ratio, -1, 0.2, 0.2)),
      line(upTo5, ratio => formula(ratio, -1, 0.2, 0.2, dual)),
    ])

  const clip_weights = ({ low, high, dual }) =>
    [[1, upTo2], [-1, upTo5]].map(([A, ratios]) => [
      line(ratios, ratio => clipSlope(ratio, A, low, low)),
      line(ratios, ratio => clipSlope(ratio, A, low, low, dual)),
      line(ratios, ratio => clipSlope(ratio, A, low, high)),
    ])

  const ratio_weights = ({ edge, cap, tau_pos, tau_neg }) =>
    [[1, tau_pos], [-1, tau_neg]].map(([A, tau]) => [
      line(upTo4, ratio => clipSlope(ratio, A, edge, edge)),
      line(upTo4, ratio => cispoSlope(ratio, A, cap)),
      line(upTo4, ratio => sapoSlope(ratio, A, tau)),
      line(upTo4, ratio => clipSlope(ratio, A, 3e-4, 4e-4)),
    ])

  // Groups of G responses, k of them correct, with rewards of 1 and 0.

  const centred = (reward, k, G) => (k === 0 || k === G ? 0 : reward - k / G)
  const deviation = (k, G, ddof) => Math.sqrt((k * (G - k)) / G / (G - ddof))
  const scaled = (reward, k, G, ddof = 1) => {
    const difference = centred(reward, k, G)
    return difference === 0 ? 0 : difference / deviation(k, G, ddof)
  }

  const group_advantages = ({ group: G }) =>
    [[1, range(G).map(k => k + 1)], [0, range(G)]].map(([reward, counts]) => [
      counts.map(k => [k / G, scaled(reward, k, G)]),
      counts.map(k => [k / G, centred(reward, k, G)]),
      counts.map(k => [k / G, (centred(reward, k, G) * G) / (G - 1)]),
    ])

  const binary_advantage = ({ group }) => [
    [[200, 0], [group, 1]].flatMap(([G, ddof]) =>
      [1, 0].map(reward => range(G - 1).map(k => [(k + 1) / G, scaled(reward, k + 1, G, ddof)])),
    ),
  ]

  const binomial = (G, q) => {
    const ways = [1]
    for (let k = 0; k < G; k++) ways.push((ways[k] * (G - k)) / (k + 1))
    return ways.map((number, k) => number * q ** k * (1 - q) ** (G - k))
  }
  // The advantages of correct responses add up to k·A, those of the others to −k·A.
  const promptWeight = (q, G) =>
    sum(binomial(G, q).map((likely, k) => likely * k * scaled(1, k, G))) / (G * q * (1 - q))
  const mixed = (q, G) => 1 - q ** G - (1 - q) ** G

  const prompt_weight = ({ group }) => {
    const rates = grid(0.01, 0.99, 99)
    const sizes = [group, 2 * group, 4 * group]
    return [
      [...sizes.map(G => line(rates, q => promptWeight(q, G))), line(rates, q => 1 / Math.sqrt(q * (1 - q)))],
      sizes.map(G => line(rates, q => mixed(q, G))),
    ]
  }

  // Pairs, by the difference h of their log-ratios: losses, and their slopes in h.

  const dpo_slope = ({ beta, flipped }) => {
    const differences = grid(-5, 7, 301)
    const value = m => softplus(-m)
    const slope = m => -sigmoid(-m)
    return [
      [
        line(differences, h => value(beta * h)),
        line(differences, h => (1 - flipped) * value(beta * h) + flipped * value(-beta * h)),
        line(differences, h => ((1 - flipped) * value(beta * h) - flipped * value(-beta * h)) / (1 - 2 * flipped)),
        line(differences, h => (h - 1 / (2 * beta)) ** 2),
      ],
      [
        line(differences, h => beta * slope(beta * h)),
        line(differences, h => beta * ((1 - flipped) * slope(beta * h) - flipped * slope(-beta * h))),
        line(differences, h => (beta * ((1 - flipped) * slope(beta * h) + flipped * slope(-beta * h))) / (1 - 2 * flipped)),
        line(differences, h => 2 * (h - 1 / (2 * beta))),
      ],
    ]
  }

  // The best of n of four responses, the worst first.

  const best_of_n = ({ best }) => {
    const policy = [4, 3, 2].map(share => ((1 - best) * share) / 9).concat(best)
    const atMost = policy.map((_, k) => sum(policy.slice(0, k + 1)))
    const law = n => policy.map((p, k) => atMost[k] ** n - (k ? atMost[k - 1] : 0) ** n)
    const samples = range(8).map(k => k + 1)
    return [
      [1, 2, 4, 8].map(n => law(n).map((p, k) => [k, p])),
      [
        line(samples, n => sum(law(n).map((p, k) => p * Math.log(p / policy[k])))),
        line(samples, n => Math.log(n) - (n - 1) / n),
      ],
    ]
  }

  // The weight of each of three items of a rubric, by the confidence in the second.

  const grape_weights = ({ doubtful }) => {
    const confidences = grid(0, 1, 101)
    const trusts = c => [1, c, 2 * doubtful]
    return [c => sum(trusts(c)), () => 1].map(divisor =>
      range(3).map(item => line(confidences, c => trusts(c)[item] / divisor(c))),
    )
  }

  return {
    ppo_clip, dual_clip, clip_weights, ratio_weights, group_advantages, binary_advantage, prompt_weight, dpo_slope,
    best_of_n, grape_weights,
  }
})()
