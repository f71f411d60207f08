(** The rounding error of [trpo_per_token]. *)
From Coq Require Import Reals Lra.
From Rounding Require Import Model.
Open Scope R_scope.

Theorem trpo_per_token_error (u logp old_logp A d rho v : R) :
  0 < u <= 1/1000 ->
  u * Rabs (logp - old_logp) <= 1/100 ->   (* holds wherever rho neither saturates nor underflows *)
  rounded u (logp - old_logp) d ->
  within_ulps 1 u (exp d) rho ->
  rounded u (rho * - A) v ->
  let value := exp (logp - old_logp) * - A in
  Rabs (v - value) <= 4 * u * (Rabs (logp - old_logp) + 1) * Rabs value.
Proof.
  intros U T D E V value. set (x := logp - old_logp) in *.
  pose proof (ratio_error 1 u x d rho U ltac:(lra) T D E) as N.
  set (t := u * Rabs x) in *. assert (0 <= t) by (apply Rmult_le_pos; [lra | apply Rabs_pos]).
  set (q := 102/100 * t + 204/100 * (1 * u)) in *. assert (Q : 0 <= q) by (unfold q; lra).
  pose proof (near_error _ _ _ (near_of _ _ _ (Rlt_le _ _ (exp_pos x)) N)) as K.
  eapply Rle_trans; [apply (product_error u q _ _ _ _ ltac:(lra) Q K V) |].
  apply Rmult_le_compat_r; [apply Rabs_pos |]. pose proof (shrinks (1/1000) u q ltac:(lra) Q).
  replace (4 * u * (Rabs x + 1)) with (4 * t + 4 * u) by (unfold t; ring). unfold q in *. lra.
Qed.
