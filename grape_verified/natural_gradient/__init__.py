"""Steps along the natural gradient of a policy: products with its Fisher matrix, conjugate gradients, TRPO's step."""
