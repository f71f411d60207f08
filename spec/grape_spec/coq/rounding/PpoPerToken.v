(** The rounding error of [ppo_per_token], in all branches. *)
From Coq Require Import Reals Lra Psatz.
From Rounding Require Import Model.
Open Scope R_scope.

(** The loss, as in the docstring: the ratio rho, the advantage A, the clip range [1 - low, 1 + high], and the constant
    c of the dual clip, if there is one. *)
Definition clipped_loss (rho A low high : R) : R := - Rmin (rho * A) (Rmin (Rmax rho (1 - low)) (1 + high) * A).

Definition ppo (rho A low high : R) (dual : option R) : R :=
  match dual with
  | None => clipped_loss rho A low high
  | Some c => if Rlt_dec A 0 then - Rmax (- clipped_loss rho A low high) (c * A) else clipped_loss rho A low high
  end.

(** The ratio that the kernel multiplies by -A: clipped from above for A >= 0, else from below and by the dual clip. *)
Definition capped (x : R) (dual : option R) : R := match dual with None => x | Some c => Rmin x c end.

Definition selected (rho A lower upper : R) (dual : option R) : R :=
  if Rle_dec 0 A then Rmin rho upper else capped (Rmax rho lower) dual.

Lemma ppo_selected rho A low high dual : 0 <= low -> 0 <= high ->
  ppo rho A low high dual = selected rho A (1 - low) (1 + high) dual * - A.
Proof.
  intros L H. unfold ppo, clipped_loss, selected, capped.
  destruct dual as [c |]; destruct (Rle_dec 0 A); try destruct (Rlt_dec A 0); try lra;
  unfold Rmin, Rmax; repeat destruct (Rle_dec _ _); nra.
Qed.

Definition rounded_if_given (u : R) (x v : option R) : Prop :=
  match x, v with
  | None, None => True
  | Some x, Some v => rounded_option u x v
  | _, _ => False
  end.

Theorem ppo_per_token_error (u logp old_logp A low high : R) (dual : option R)
  (d rho lower upper v : R) (c : option R) :
  0 < u <= 1/1000 ->
  u * Rabs (logp - old_logp) <= 1/100 ->   (* holds wherever rho neither saturates nor underflows *)
  0 <= low <= 1 -> 0 <= high ->
  match dual with None => True | Some x => 1 < x end ->
  rounded u (logp - old_logp) d ->
  within_ulps 1 u (exp d) rho ->
  rounded_option u (1 - low) lower ->
  rounded_option u (1 + high) upper ->
  rounded_if_given u dual c ->
  rounded u (selected rho A lower upper c * - A) v ->
  let value := ppo (exp (logp - old_logp)) A low high dual in
  Rabs (v - value) <= 4 * u * (Rabs (logp - old_logp) + 1) * Rabs value.
Proof.
  intros U T L H C D E HL HU HC V value. set (x := logp - old_logp) in *.
  pose proof (ratio_error 1 u x d rho U ltac:(lra) T D E) as N. pose proof (exp_pos x). set (t := u * Rabs x) in *.
  assert (T0 : 0 <= t) by (apply Rmult_le_pos; [lra | apply Rabs_pos]). set (q := 102/100 * t + 204/100 * (1 * u)) in *.
  assert (Q : 0 <= q <= 1) by (unfold q; lra).
  assert (K : near q (selected (exp x) A (1 - low) (1 + high) dual) (selected rho A lower upper c)).
  { assert (N0 : near q (exp x) rho) by (apply near_of; lra).
    assert (NL : near q (1 - low) lower) by (apply (near_option q u); [lra | unfold q; lra | exact HL]).
    assert (NU : near q (1 + high) upper) by (apply (near_option q u); [lra | unfold q; lra | exact HU]).
    unfold selected, capped, rounded_if_given in *. destruct (Rle_dec 0 A); [now apply near_min |].
    destruct dual as [k |], c as [k' |]; try contradiction; [| now apply near_max].
    apply near_min; [exact Q | now apply near_max | apply (near_option q u); [lra | unfold q; lra | exact HC]]. }
  unfold value. rewrite ppo_selected by lra.
  eapply Rle_trans; [apply (product_error u q _ _ _ _ ltac:(lra) ltac:(lra) (near_error _ _ _ K) V) |].
  apply Rmult_le_compat_r; [apply Rabs_pos |]. pose proof (shrinks (1/1000) u q ltac:(lra) ltac:(lra)).
  replace (4 * u * (Rabs x + 1)) with (4 * t + 4 * u) by (unfold t; ring). unfold q in *. lra.
Qed.

(** The bound needs an exponential within 1 ulp: within 2 ulp, an error of 5u is possible where the policies agree. *)
Theorem ppo_per_token_not_within_2_ulps (u logp A low high : R) : 0 < u < 1 -> 0 <= low <= 1 -> 0 <= high -> A < 0 ->
  exists rho v : R,
    within_ulps 2 u (exp (logp - logp)) rho /\
    rounded u (selected rho A (1 - low) (1 + high) None * - A) v /\
    let value := ppo (exp (logp - logp)) A low high None in
    Rabs (v - value) > 4 * u * (Rabs (logp - logp) + 1) * Rabs value.
Proof.
  intros U L H N. replace (logp - logp) with 0 by ring. rewrite exp_0, Rabs_R0.
  exists (1 + 4 * u), ((1 + 4 * u) * - A * (1 + u)).
  assert (E : selected (1 + 4 * u) A (1 - low) (1 + high) None = 1 + 4 * u).
  { unfold selected, capped. destruct (Rle_dec 0 A); [lra | apply Rmax_left; lra]. }
  assert (F : ppo 1 A low high None = - A).
  { rewrite ppo_selected by lra. unfold selected, capped. destruct (Rle_dec 0 A); [lra | rewrite Rmax_left; lra]. }
  rewrite E, F. split; [| split].
  - unfold within_ulps. rewrite Rabs_R1, Rabs_pos_eq; lra.
  - unfold rounded. replace ((1 + 4 * u) * - A * (1 + u) - (1 + 4 * u) * - A) with (u * ((1 + 4 * u) * - A)) by ring.
    rewrite Rabs_mult, (Rabs_pos_eq u) by lra. apply Rle_refl.
  - cbv zeta. assert (P : 0 < u * - A) by (apply Rmult_lt_0_compat; lra).
    assert (Q : 0 < u * (u * - A)) by (apply Rmult_lt_0_compat; lra).
    replace ((1 + 4 * u) * - A * (1 + u) - - A) with (5 * (u * - A) + 4 * (u * (u * - A))) by ring.
    rewrite !Rabs_pos_eq; lra.
Qed.
