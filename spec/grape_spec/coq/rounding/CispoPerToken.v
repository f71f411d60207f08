(** The rounding error of [cispo_per_token]. *)
From Coq Require Import Reals Lra.
From Rounding Require Import Model.
Open Scope R_scope.

Definition clip (x lower upper : R) : R := Rmin (Rmax x lower) upper.

(** One product more than in PPO, so the exponential has to be within 9/10 ulp. *)
Theorem cispo_per_token_error (u logp old_logp A low high d rho lower upper p v : R) :
  0 < u <= 1/1000 ->
  u * Rabs (logp - old_logp) <= 1/100 ->   (* holds wherever rho neither saturates nor underflows *)
  0 <= low <= 1 -> 0 <= high ->
  rounded u (logp - old_logp) d ->
  within_ulps (9/10) u (exp d) rho ->
  rounded_option u (1 - low) lower ->
  rounded_option u (1 + high) upper ->
  rounded u (clip rho lower upper * A) p ->
  rounded u (p * logp) v ->
  let value := - (clip (exp (logp - old_logp)) (1 - low) (1 + high) * A * logp) in
  Rabs (- v - value) <= 4 * u * (Rabs (logp - old_logp) + 1) * Rabs value.
Proof.
  intros U T L H D E HL HU P V value. set (x := logp - old_logp) in *.
  pose proof (ratio_error (9/10) u x d rho U ltac:(lra) T D E) as N. pose proof (exp_pos x). set (t := u * Rabs x) in *.
  assert (T0 : 0 <= t) by (apply Rmult_le_pos; [lra | apply Rabs_pos]).
  set (q := 102/100 * t + 204/100 * (9/10 * u)) in *. assert (Q : 0 <= q <= 1) by (unfold q; lra).
  assert (K : near q (clip (exp x) (1 - low) (1 + high)) (clip rho lower upper)).
  { apply near_min; [exact Q | apply near_max; [exact Q | apply near_of; lra |] |];
      apply (near_option q u); try assumption; unfold q; lra. }
  pose proof (product_error u q _ _ _ _ ltac:(lra) ltac:(lra) (near_error _ _ _ K) P) as M.
  set (q' := q + u * (1 + q)) in *. assert (U' : 0 <= u * q) by (apply Rmult_le_pos; lra).
  assert (Q' : 0 <= q') by (unfold q'; lra). pose proof (product_error u q' _ _ _ _ ltac:(lra) Q' M V) as F.
  unfold value. rewrite Rabs_Ropp. replace (- v - - (clip (exp x) (1 - low) (1 + high) * A * logp)) with
    (- (v - clip (exp x) (1 - low) (1 + high) * A * logp)) by ring. rewrite Rabs_Ropp.
  eapply Rle_trans; [exact F |]. apply Rmult_le_compat_r; [apply Rabs_pos |].
  pose proof (shrinks (1/1000) u q ltac:(lra) ltac:(lra)). pose proof (shrinks (1/1000) u q' ltac:(lra) Q').
  pose proof (shrinks (1/1000) u u ltac:(lra) ltac:(lra)).
  replace (4 * u * (Rabs x + 1)) with (4 * t + 4 * u) by (unfold t; ring). unfold q', q in *. lra.
Qed.
