(** The rounding error of [reinforce_per_token]. *)
From Coq Require Import Reals.
From Rounding Require Import Model.
Open Scope R_scope.

(** Negation is exact, so one product is all that is rounded. *)
Theorem reinforce_per_token_error (u logp A v : R) :
  rounded u (- A * logp) v ->
  let value := - (A * logp) in
  Rabs (v - value) <= u * Rabs value.
Proof. intros V value. unfold value. rewrite Ropp_mult_distr_l. exact V. Qed.
