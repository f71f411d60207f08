(** The rounding error of [bradley_terry_per_pair]. *)
From Coq Require Import Reals Lra.
From Rounding Require Import Model LogSigmoid.
Open Scope R_scope.

Theorem bradley_terry_per_pair_error (u eta chosen rejected m y : R) :
  0 < u <= 1/1000 -> 0 <= eta <= u / 1000 ->   (* results near 0 may underflow *)
  rounded u (chosen - rejected) m ->
  computes_log_sigmoid (3/2) u eta m y ->
  let value := - log_sigmoid (chosen - rejected) in
  Rabs (- y - value) <= 4 * u * (Rabs (chosen - rejected) + 1).
Proof.
  intros U H M Y value. unfold rounded in M. set (x := chosen - rejected) in *.
  pose proof (log_sigmoid_error (3/2) u eta x m y U ltac:(lra) H Y) as E. pose proof (log_sigmoid_size x) as S.
  unfold value. replace (- y - - log_sigmoid x) with (- (y - log_sigmoid x)) by ring. rewrite Rabs_Ropp.
  assert (u * Rabs (log_sigmoid x) <= u * (Rabs x + 7/10)) by (apply Rmult_le_compat_l; lra).
  assert (0 <= u * Rabs x) by (apply Rmult_le_pos; [lra | apply Rabs_pos]). lra.
Qed.
