(** The rounding error of [value_loss_per_token], without and with clipping. *)
From Coq Require Import Reals Lra Psatz.
From Rounding Require Import Model.
Open Scope R_scope.

(** The square of a difference x, computed as d up to an error b: halving is exact, the product is rounded. *)
Lemma half_square_near u x d b v : 0 < u <= 1/1000 -> 0 <= b ->
  Rabs (d - x) <= u * Rabs x + b ->
  rounded u (1/2 * d * d) v ->
  Rabs (v - x ^ 2 / 2) <= 302/100 * u * (x ^ 2 / 2) + 102/100 * (Rabs x * b) + 51/100 * b ^ 2.
Proof.
  intros U B D V. unfold rounded in V. rewrite (Rabs_pos_eq (1/2 * d * d)) in V by nra.
  assert (X := Rabs_pos x). set (m := Rabs x) in *.
  rewrite <- (pow2_abs x). fold m.
  assert (M : Rabs (1/2 * d * d - m ^ 2 / 2) <= (u * m + b) * (2 * m + (u * m + b)) / 2).
  { unfold m at 1; rewrite pow2_abs; fold m.
    replace (1/2 * d * d - x ^ 2 / 2) with ((d - x) * (d + x) / 2) by field.
    unfold Rdiv. rewrite !Rabs_mult, (Rabs_pos_eq (/ 2)) by lra. apply Rmult_le_compat_r; [lra |].
    apply Rmult_le_compat; [apply Rabs_pos | apply Rabs_pos | exact D |].
    replace (d + x) with (2 * x + (d - x)) by ring. eapply Rle_trans; [apply Rabs_triang |].
    rewrite Rabs_mult, (Rabs_pos_eq 2) by lra. fold m. lra. }
  apply Rabs_bounds in M. apply Rabs_bounds in V.
  set (s := m ^ 2) in *. assert (S : 0 <= s) by (unfold s; nra). assert (E : m * m = s) by (unfold s; ring).
  assert (P : 0 <= m * b) by (apply Rmult_le_pos; assumption). assert (Q : 0 <= b ^ 2) by nra.
  assert (N : (u * m + b) * (2 * m + (u * m + b)) / 2 <= 2001/2000 * (u * s) + 1001/1000 * (m * b) + b ^ 2 / 2).
  { replace ((u * m + b) * (2 * m + (u * m + b)) / 2) with
      (u * (m * m) + u * u * (m * m) / 2 + m * b + u * (m * b) + b ^ 2 / 2) by field.
    rewrite E. assert (u * u * s <= u / 1000 * s) by (apply Rmult_le_compat_r; nra).
    assert (u * (m * b) <= 1/1000 * (m * b)) by (apply Rmult_le_compat_r; lra). lra. }
  set (w := 1/2 * d * d) in *.
  assert (W : u * w <= u * (s / 2 + (2001/2000 * (u * s) + 1001/1000 * (m * b) + b ^ 2 / 2)))
    by (apply Rmult_le_compat_l; lra).
  assert (u * (u * s) <= 1/1000 * (u * s)) by (apply Rmult_le_compat_r; nra).
  assert (u * (m * b) <= 1/1000 * (m * b)) by (apply Rmult_le_compat_r; lra).
  assert (u * b ^ 2 <= 1/1000 * b ^ 2) by (apply Rmult_le_compat_r; lra).
  apply Rabs_le. split; lra.
Qed.

Theorem value_loss_per_token_error (u V R' d v : R) :
  0 < u <= 1/1000 ->
  rounded u (V - R') d ->
  rounded u (1/2 * d * d) v ->
  let value := (V - R') ^ 2 / 2 in
  Rabs (v - value) <= 4 * u * value.
Proof.
  intros U D H value. unfold rounded in D.
  pose proof (half_square_near u (V - R') d 0 v U ltac:(lra) ltac:(lra) H) as K. fold value in K.
  assert (0 <= u * value) by (apply Rmult_le_pos; [lra | unfold value; pose proof (pow2_ge_0 (V - R')); lra]). lra.
Qed.

(** With a clip of width c about V_old. The option c is rounded as Python's float to c', the ends of the interval are
    rounded, and so is the difference of the clipped value and the return; the larger of both errors is squared. *)
Definition clip (x lower upper : R) : R := Rmin (Rmax x lower) upper.
Definition larger (x y : R) : R := if Rlt_dec (Rabs x) (Rabs y) then y else x.

Lemma clip_near b x lower upper lower' upper' :
  0 <= b -> Rabs (lower' - lower) <= b -> Rabs (upper' - upper) <= b ->
  Rabs (clip x lower' upper' - clip x lower upper) <= b.
Proof.
  intros B L U. apply Rabs_bounds in L. apply Rabs_bounds in U. apply Rabs_le. unfold clip, Rmin, Rmax.
  repeat destruct (Rle_dec _ _); lra.
Qed.

Theorem value_loss_per_token_clipped_error (u V R' V_old c c' lower upper d d' v : R) :
  0 < u <= 1/1000 ->
  0 < c ->
  rounded_option u c c' ->
  rounded u (V_old - c') lower ->
  rounded u (V_old + c') upper ->
  rounded u (V - R') d ->
  rounded u (clip V lower upper - R') d' ->
  rounded u (1/2 * larger d d' * larger d d') v ->
  let value := Rmax ((V - R') ^ 2) ((clip V (V_old - c) (V_old + c) - R') ^ 2) / 2 in
  let s := Rabs V_old + c in
  Rabs (v - value) <= 4 * u * (value + sqrt (2 * value) * s + u * s ^ 2).
Proof.
  intros U C HC HL HU D D' H value s. unfold rounded, rounded_option in HC, HL, HU, D, D'.
  rewrite (Rabs_pos_eq c) in HC by lra. apply Rabs_bounds in HC.
  assert (O := Rabs_pos V_old). set (o := Rabs V_old) in *.
  (* Each end of the interval is off by at most b. *)
  set (b := 203/100 * (u * s)).
  assert (S0 : 0 <= u * s) by (apply Rmult_le_pos; unfold s; lra).
  assert (cc : Rabs c' <= 102/100 * c) by (apply Rabs_le; nra).
  assert (ends : forall x y, Rabs (x - y) <= 101/100 * u * c -> Rabs x <= o + 102/100 * c ->
                 forall z, Rabs (z - x) <= u * Rabs x -> Rabs (z - y) <= b).
  { intros x y X Y z Z. pose proof (Rabs_step _ _ _ _ _ X Z) as W.
    assert (u * Rabs x <= u * (o + 102/100 * c)) by (apply Rmult_le_compat_l; lra).
    assert (0 <= u * o) by (apply Rmult_le_pos; lra). assert (0 <= u * c) by (apply Rmult_le_pos; lra).
    unfold b, s. lra. }
  assert (L : Rabs (lower - (V_old - c)) <= b).
  { apply (ends (V_old - c')); [apply Rabs_le; lra | | exact HL].
    unfold Rminus. eapply Rle_trans; [apply Rabs_triang | rewrite Rabs_Ropp; fold o; lra]. }
  assert (P : Rabs (upper - (V_old + c)) <= b).
  { apply (ends (V_old + c')); [apply Rabs_le; lra | | exact HU]. eapply Rle_trans; [apply Rabs_triang | fold o; lra]. }
  assert (B : 0 <= b) by (unfold b; lra).
  pose proof (clip_near b V _ _ _ _ B L P) as K.
  set (k := clip V (V_old - c) (V_old + c)) in *. set (k' := clip V lower upper) in *.
  set (x := V - R') in *. set (y := k - R') in *.
  (* The clipped error is off by its rounding and by b. *)
  assert (Y : Rabs (d' - y) <= u * Rabs y + 1001/1000 * b).
  { assert (A : Rabs (k' - R' - y) <= b) by (replace (k' - R' - y) with (k' - k) by (unfold y; ring); exact K).
    pose proof (Rabs_within _ _ _ A) as G. pose proof (Rabs_step _ _ _ _ _ A D') as J.
    assert (u * Rabs (k' - R') <= u * (Rabs y + b)) by (apply Rmult_le_compat_l; lra).
    assert (u * b <= 1/1000 * b) by (apply Rmult_le_compat_r; lra). lra. }
  (* So is the larger of the two in magnitude. *)
  set (m := Rmax (Rabs x) (Rabs y)). set (n := Rabs (larger d d')).
  assert (N : Rabs (n - m) <= u * m + 1001/1000 * b).
  { assert (X : Rabs (Rabs d - Rabs x) <= u * Rabs x) by (eapply Rle_trans; [apply Rabs_triang_inv2 | exact D]).
    assert (Z : Rabs (Rabs d' - Rabs y) <= u * Rabs y + 1001/1000 * b)
      by (eapply Rle_trans; [apply Rabs_triang_inv2 | exact Y]).
    assert (E : n = Rmax (Rabs d) (Rabs d')).
    { unfold n, larger. destruct (Rlt_dec _ _); [rewrite Rmax_right | rewrite Rmax_left]; lra. }
    rewrite E. unfold m. apply Rabs_bounds in X. apply Rabs_bounds in Z. apply Rabs_le.
    assert (A := Rabs_pos x). assert (A' := Rabs_pos y).
    unfold Rmax. destruct (Rle_dec (Rabs d) _), (Rle_dec (Rabs x) _); nra. }
  assert (M0 : 0 <= m) by (unfold m; apply Rle_trans with (Rabs x); [apply Rabs_pos | apply Rmax_l]).
  assert (value_is : value = m ^ 2 / 2).
  { unfold value, m. rewrite <- (pow2_abs x), <- (pow2_abs y). f_equal.
    assert (A := Rabs_pos x). assert (A' := Rabs_pos y). unfold Rmax.
    destruct (Rle_dec (Rabs x ^ 2) _), (Rle_dec (Rabs x) _); nra. }
  assert (H' : rounded u (1/2 * n * n) v).
  { unfold n. replace (1/2 * Rabs (larger d d') * Rabs (larger d d')) with (1/2 * larger d d' * larger d d');
      [exact H |].
    rewrite !Rmult_assoc, <- Rabs_mult, Rabs_pos_eq; [reflexivity | nra]. }
  assert (N' : Rabs (n - m) <= u * Rabs m + 1001/1000 * b) by (rewrite (Rabs_pos_eq m) by lra; exact N).
  pose proof (half_square_near u m n (1001/1000 * b) v U ltac:(lra) N' H') as F.
  rewrite (Rabs_pos_eq m) in F by lra.
  assert (R2 : sqrt (2 * value) = m).
  { rewrite value_is. replace (2 * (m ^ 2 / 2)) with (m ^ 2) by field. now apply sqrt_pow2. }
  rewrite R2, value_is. replace (4 * u * (m ^ 2 / 2 + m * s + u * s ^ 2)) with
    (4 * u * (m ^ 2 / 2) + 4 * (m * (u * s)) + 4 * (u * s) ^ 2) by ring.
  unfold b in F. set (w := u * s) in *.
  assert (0 <= m * w) by (apply Rmult_le_pos; lra). assert (0 <= w ^ 2) by apply pow2_ge_0.
  assert (0 <= u * (m ^ 2 / 2)) by (apply Rmult_le_pos; [lra | pose proof (pow2_ge_0 m); lra]).
  replace ((1001/1000 * (203/100 * w)) ^ 2) with ((1001/1000 * (203/100)) ^ 2 * w ^ 2) in F by ring. lra.
Qed.
