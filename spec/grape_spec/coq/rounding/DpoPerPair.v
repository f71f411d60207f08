(** The rounding error of [dpo_per_pair]. *)
From Coq Require Import Reals Lra Psatz.
From Rounding Require Import Model LogSigmoid.
Open Scope R_scope.

(** The margin, beta times the difference of both log-ratios x and y. The option beta is rounded to the dtype. *)
Lemma margin_error u eta x y a b g beta beta' m : 0 < u <= 1/1000 -> 0 < beta ->
  rounded u x a -> rounded u y b -> rounded u (a - b) g ->
  rounded u beta beta' -> rounded_near_zero u eta (beta' * g) m ->
  Rabs (m - beta * (x - y)) <= 402/100 * u * (beta * Rabs x + beta * Rabs y) + eta.
Proof.
  intros U B A A' G B' M. unfold rounded, rounded_near_zero in *. rewrite (Rabs_pos_eq beta) in B' by lra.
  set (w := Rabs x + Rabs y). assert (W : 0 <= w) by (unfold w; pose proof (Rabs_pos x); pose proof (Rabs_pos y); lra).
  replace (beta * Rabs x + beta * Rabs y) with (beta * w) by (unfold w; ring).
  assert (UW : 0 <= u * w) by (apply Rmult_le_pos; lra).
  assert (X : Rabs (x - y) <= w).
  { unfold w. replace (x - y) with (x + - y) by ring. rewrite <- (Rabs_Ropp y). apply Rabs_triang. }
  assert (D : Rabs (a - b - (x - y)) <= u * w).
  { replace (a - b - (x - y)) with ((a - x) + - (b - y)) by ring. eapply Rle_trans; [apply Rabs_triang |].
    rewrite Rabs_Ropp. unfold w. rewrite Rmult_plus_distr_l. lra. }
  pose proof (Rabs_within _ _ _ D) as E. pose proof (Rabs_step _ _ _ _ _ D G) as F.
  assert (u * Rabs (a - b) <= u * (w + u * w)) by (apply Rmult_le_compat_l; lra).
  pose proof (shrinks (1/1000) u (u * w) ltac:(lra) ltac:(lra)).
  assert (F' : Rabs (g - (x - y)) <= 2001/1000 * (u * w)) by lra.
  assert (G' : Rabs g <= 1003/1000 * w).
  { pose proof (Rabs_within _ _ _ F'). pose proof (shrinks (1/1000) u w ltac:(lra) ltac:(lra)). lra. }
  set (s := beta * w) in *. assert (S : 0 <= s) by (apply Rmult_le_pos; lra).
  assert (US : 0 <= u * s) by (apply Rmult_le_pos; lra).
  assert (H1 : Rabs (beta' * g - beta * (x - y)) <= 3005/1000 * (u * s)).
  { replace (beta' * g - beta * (x - y)) with ((beta' - beta) * g + beta * (g - (x - y))) by ring.
    eapply Rle_trans; [apply Rabs_triang |]. rewrite !Rabs_mult, (Rabs_pos_eq beta) by lra.
    assert (Rabs (beta' - beta) * Rabs g <= (u * beta) * (1003/1000 * w)).
    { apply Rmult_le_compat; [apply Rabs_pos | apply Rabs_pos | lra | lra]. }
    assert (beta * Rabs (g - (x - y)) <= beta * (2001/1000 * (u * w))) by (apply Rmult_le_compat_l; lra).
    unfold s in *. lra. }
  assert (X' : Rabs (beta * (x - y)) <= s).
  { rewrite Rabs_mult, (Rabs_pos_eq beta) by lra. apply Rmult_le_compat_l; lra. }
  pose proof (Rabs_within _ _ _ H1) as I. pose proof (Rabs_step _ _ _ _ _ H1 M) as J.
  pose proof (shrinks (1/1000) u (u * s) ltac:(lra) ltac:(lra)).
  assert (u * Rabs (beta' * g) <= u * (s + 3005/1000 * (u * s))) by (apply Rmult_le_compat_l; lra). lra.
Qed.

(** A product of a weight w, computed as k, and the logarithm l <= 0, computed as y, which is off by d. *)
Lemma weighted_error u eta w k b l y d p : 0 < u <= 1/1000 -> 0 <= eta ->
  0 <= w <= 1 -> Rabs (k - w) <= b -> Rabs (y - l) <= d ->
  rounded_near_zero u eta (k * y) p ->
  Rabs (p - w * l) <= u * (w * Rabs l) + 1001/1000 * (b * (Rabs l + d) + w * d) + eta.
Proof.
  intros U H W K Y P. unfold rounded_near_zero in P. pose proof (Rabs_within _ _ _ Y) as Y'.
  assert (L := Rabs_pos l). assert (D := Rabs_pos (y - l)). assert (B := Rabs_pos (k - w)).
  assert (A : Rabs (k * y - w * l) <= b * (Rabs l + d) + w * d).
  { replace (k * y - w * l) with ((k - w) * y + w * (y - l)) by ring. eapply Rle_trans; [apply Rabs_triang |].
    rewrite !Rabs_mult, (Rabs_pos_eq w) by lra. apply Rplus_le_compat.
    - apply Rmult_le_compat; [apply Rabs_pos | apply Rabs_pos | lra | lra].
    - apply Rmult_le_compat_l; lra. }
  pose proof (Rabs_within _ _ _ A) as A'. rewrite (Rabs_mult w), (Rabs_pos_eq w) in A' by lra.
  pose proof (Rabs_step _ _ _ _ _ A P) as J. set (f := b * (Rabs l + d) + w * d) in *.
  assert (0 <= f) by (eapply Rle_trans; [apply Rabs_pos | exact A]).
  assert (u * Rabs (k * y) <= u * (w * Rabs l + f)) by (apply Rmult_le_compat_l; lra).
  pose proof (shrinks (1/1000) u f ltac:(lra) ltac:(lra)). lra.
Qed.

Theorem dpo_per_pair_error (u eta chosen rejected ref_chosen ref_rejected beta smoothing : R)
  (a b g beta' m y z k e p q v : R) :
  0 < u <= 1/1000 -> 0 <= eta <= u / 1000 ->   (* results near 0 may underflow *)
  0 < beta -> 0 <= smoothing <= 1/2 ->
  rounded u (chosen - ref_chosen) a ->
  rounded u (rejected - ref_rejected) b ->
  rounded u (a - b) g ->
  rounded u beta beta' ->
  rounded_near_zero u eta (beta' * g) m ->
  computes_log_sigmoid 2 u eta m y ->
  computes_log_sigmoid 2 u eta (- m) z ->
  Rabs (k - (1 - smoothing)) <= 51/100 * u ->   (* numbers from 1/2 to 1 are u apart *)
  rounded_near_zero u eta smoothing e ->
  rounded_near_zero u eta (- k * y) p ->
  rounded_near_zero u eta (e * z) q ->
  rounded u (p - q) v ->
  let log_ratios := beta * Rabs (chosen - ref_chosen) + beta * Rabs (rejected - ref_rejected) in
  let margin := beta * ((chosen - ref_chosen) - (rejected - ref_rejected)) in
  let value := - (1 - smoothing) * log_sigmoid margin - smoothing * log_sigmoid (- margin) in
  Rabs (v - value) <= 8 * u * (log_ratios + 1).
Proof.
  intros U H B E A A' G B' M Y Z K E' P Q V s m0 value.
  pose proof (margin_error u eta _ _ a b g beta beta' m U B A A' G B' M) as D. fold m0 s in D.
  assert (S : Rabs m0 <= s).
  { unfold m0, s. rewrite Rabs_mult, (Rabs_pos_eq beta), <- Rmult_plus_distr_l by lra. apply Rmult_le_compat_l; [lra |].
    unfold Rminus at 1. eapply Rle_trans; [apply Rabs_triang | rewrite Rabs_Ropp; lra]. }
  pose proof (log_sigmoid_error 2 u eta m0 m y U ltac:(lra) H Y) as Y'.
  pose proof (log_sigmoid_error 2 u eta (- m0) (- m) z U ltac:(lra) H Z) as Z'.
  replace (Rabs (- m - - m0)) with (Rabs (m - m0)) in Z' by (rewrite <- Rabs_Ropp; f_equal; ring).
  set (d := Rabs (m - m0)) in *. assert (d0 : 0 <= d) by apply Rabs_pos.
  (* Both logarithms, without their signs. *)
  assert (L := log_sigmoid_negative m0). assert (L' := log_sigmoid_negative (- m0)).
  assert (O := log_sigmoid_opposite m0).
  rewrite (Rabs_left1 (log_sigmoid m0)) in Y' by lra. rewrite (Rabs_left1 (log_sigmoid (- m0))) in Z' by lra.
  assert (small : (0 <= m0 /\ - log_sigmoid m0 <= 7/10) \/ (m0 <= 0 /\ - log_sigmoid (- m0) <= 7/10)).
  { destruct (Rle_lt_dec 0 m0); [left | right].
    - pose proof (log_sigmoid_of_positive m0). lra.
    - pose proof (log_sigmoid_of_positive (- m0)). lra. }
  set (l1 := - log_sigmoid m0) in *. set (l2 := - log_sigmoid (- m0)) in *.
  assert (T : l2 = l1 + m0) by (unfold l1, l2; lra). clear O.
  assert (L1 : 0 <= l1) by (unfold l1; lra). assert (L2 : 0 <= l2) by (unfold l2; lra).
  assert (S0 : 0 <= s) by (eapply Rle_trans; [apply Rabs_pos | exact S]). apply Rabs_bounds in S.
  set (t := u * s) in *. assert (T0 : 0 <= t) by (apply Rmult_le_pos; lra).
  assert (D' : d <= 402/100 * t + 1/1000 * u) by (unfold t; lra).
  (* r1 and r2 are the relative errors of both logarithms: u times their sizes. *)
  set (r1 := u * l1) in *. set (r2 := u * l2) in *.
  assert (R1 : 0 <= r1) by (apply Rmult_le_pos; lra). assert (R2 : 0 <= r2) by (apply Rmult_le_pos; lra).
  assert (R : r1 <= 7/10 * u /\ r2 <= t + 7/10 * u /\ r1 <= r2 \/ r2 <= 7/10 * u /\ r1 <= t + 7/10 * u /\ r2 <= r1).
  { assert (K1 : forall x, x <= 7/10 -> u * x <= 7/10 * u).
    { intros. rewrite (Rmult_comm (7/10)). apply Rmult_le_compat_l; lra. }
    assert (K2 : forall x, x <= s + 7/10 -> u * x <= t + 7/10 * u).
    { intros. replace (t + 7/10 * u) with (u * (s + 7/10)) by (unfold t; ring). apply Rmult_le_compat_l; lra. }
    destruct small as [[M0 N] | [M0 N]]; [left | right]; (split; [apply K1; lra | split; [apply K2; lra |]]);
      apply Rmult_le_compat_l; lra. }
  set (d1 := 1001/1000 * d + r1 + 384/100 * u) in *. set (d2 := 1001/1000 * d + r2 + 384/100 * u) in *.
  replace (- k * y) with (k * - y) in P by ring.
  assert (Y2 : Rabs (- y - l1) <= d1).
  { replace (- y - l1) with (- (y - log_sigmoid m0)) by (unfold l1; ring). rewrite Rabs_Ropp.
    unfold d1. lra. }
  assert (Z2 : Rabs (- z - l2) <= d2).
  { replace (- z - l2) with (- (z - log_sigmoid (- m0))) by (unfold l2; ring). rewrite Rabs_Ropp.
    unfold d2. lra. }
  assert (Q2 : rounded_near_zero u eta (e * - z) (- q)).
  { unfold rounded_near_zero in *. replace (- q - e * - z) with (- (q - e * z)) by ring.
    replace (e * - z) with (- (e * z)) by ring. rewrite !Rabs_Ropp. exact Q. }
  unfold rounded_near_zero in E'. rewrite (Rabs_pos_eq smoothing) in E' by lra.
  pose proof (weighted_error u eta (1 - smoothing) k (51/100 * u) l1 (- y) d1 p U ltac:(lra) ltac:(lra) K Y2 P) as W1.
  pose proof (weighted_error u eta smoothing e (u * smoothing + eta) l2 (- z) d2 (- q) U ltac:(lra) ltac:(lra)
    E' Z2 Q2) as W2.
  rewrite (Rabs_pos_eq l1) in W1 by lra. rewrite (Rabs_pos_eq l2) in W2 by lra.
  assert (value_is : value = (1 - smoothing) * l1 + smoothing * l2) by (unfold value, l1, l2; ring).
  assert (F : Rabs (p - q - value) <= u * value
    + 1001/1000 * (51/100 * u * (l1 + d1) + (u * smoothing + eta) * (l2 + d2)
                   + (1 - smoothing) * d1 + smoothing * d2) + 2 * eta).
  { rewrite value_is. replace (p - q - ((1 - smoothing) * l1 + smoothing * l2)) with
      ((p - (1 - smoothing) * l1) + (- q - smoothing * l2)) by ring.
    eapply Rle_trans; [apply Rabs_triang |].
    rewrite (Rmult_plus_distr_l u). lra. }
  assert (value_0 : 0 <= value) by (rewrite value_is; apply Rplus_le_le_0_compat; apply Rmult_le_pos; lra).
  unfold rounded in V. pose proof (Rabs_within _ _ _ F) as G'. rewrite (Rabs_pos_eq value) in G' by lra.
  pose proof (Rabs_step _ _ _ _ _ F V) as J.
  set (e1 := smoothing * r1). set (e2 := smoothing * r2).
  assert (E1 : 0 <= e1) by (apply Rmult_le_pos; lra).
  assert (E2 : 0 <= e2 <= 1/2 * r2) by (split; [apply Rmult_le_pos; lra | apply Rmult_le_compat_r; lra]).
  assert (E12 : e2 - e1 <= 1/2 * t \/ e2 <= e1).
  { destruct R as [R | R]; [left | right; apply Rmult_le_compat_l; lra].
    replace (e2 - e1) with (smoothing * (u * m0)) by (unfold e1, e2, r1, r2; rewrite T; ring).
    apply Rle_trans with (smoothing * t); [| apply Rmult_le_compat_r; lra].
    apply Rmult_le_compat_l; [lra | apply Rmult_le_compat_l; lra]. }
  assert (UV : u * value = r1 - e1 + e2) by (rewrite value_is; unfold e1, e2, r1, r2; ring).
  assert (D1 : 0 <= d1) by (unfold d1; lra). assert (D2 : 0 <= d2) by (unfold d2; lra).
  pose proof (shrinks (1/1000) u d1 ltac:(lra) D1) as U1. pose proof (shrinks (1/1000) u d2 ltac:(lra) D2) as U2.
  assert (U2' : smoothing * (u * d2) <= 1/2 * (u * d2)) by (apply Rmult_le_compat_r; [apply Rmult_le_pos |]; lra).
  assert (X : eta * (l2 + d2) <= u / 1000 * (l2 + d2)) by (apply Rmult_le_compat_r; lra).
  assert (weights : (1 - smoothing) * d1 + smoothing * d2 = 1001/1000 * d + (r1 - e1 + e2) + 384/100 * u).
  { unfold d1, d2, e1, e2. ring. }
  set (f := u * value + _ + 2 * eta) in *.
  assert (f0 : f <= (r1 - e1 + e2) + 1001/1000 * (51/100 * r1 + 52/100000 * d1 + e2 + 51/100000 * d2 + 1/1000 * r2
    + (1001/1000 * d + (r1 - e1 + e2) + 384/100 * u)) + 2/1000 * u).
  { unfold f. rewrite UV. replace (51/100 * u * (l1 + d1)) with (51/100 * r1 + 51/100 * (u * d1)) by (unfold r1; ring).
    replace ((u * smoothing + eta) * (l2 + d2)) with (e2 + smoothing * (u * d2) + eta * (l2 + d2))
      by (unfold e2, r2; ring).
    assert (u / 1000 * (l2 + d2) <= 1/1000 * r2 + 1/1000000 * d2) by (unfold r2; lra). lra. }
  assert (f1 : 0 <= f) by (eapply Rle_trans; [apply Rabs_pos | exact F]).
  assert (u * Rabs (p - q) <= u * (value + f)) by (apply Rmult_le_compat_l; lra).
  pose proof (shrinks (1/1000) u f ltac:(lra) f1).
  replace (8 * u * (s + 1)) with (8 * t + 8 * u) by (unfold t; ring). unfold d1, d2 in f0.
  destruct E12 as [E12 | E12]; destruct R as [R | R]; lra.
Qed.
