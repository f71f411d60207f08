(** The logarithm of the logistic function: how torch's logsigmoid rounds. *)
From Coq Require Import Reals Lra Psatz.
From Rounding Require Import Model.
Open Scope R_scope.

Lemma exp_times n x : exp (INR n * x) = exp x ^ n.
Proof.
  induction n as [| n I]; [simpl; rewrite Rmult_0_l; apply exp_0 |].
  rewrite S_INR, Rmult_plus_distr_r, Rmult_1_l, exp_plus, I. simpl. ring.
Qed.

Lemma ln_2_small : ln 2 <= 7/10.
Proof.
  apply Rnot_lt_le. intro H. apply exp_increasing in H. rewrite exp_ln in H by lra.
  replace (7/10) with (INR 64 * (7/640)) in H by (simpl; field). rewrite exp_times in H.
  assert (P : (1 + 7/640) ^ 64 <= exp (7/640) ^ 64) by (apply pow_incr; pose proof (exp_ineq1_le (7/640)); lra). lra.
Qed.

(** ln(1 + x) has the slope 1/(1 + x). *)
Lemma ln_1_plus_near x y d b : 0 <= x -> 0 <= y -> Rabs (y - x) <= d -> 0 <= b ->
  d <= b * (1 + x - d) -> d <= b * (1 + x) ->
  Rabs (ln (1 + y) - ln (1 + x)) <= b.
Proof.
  assert (K : forall x y, 0 <= b -> 0 <= x -> x <= y -> y - x <= b * (1 + x) -> 0 <= ln (1 + y) - ln (1 + x) <= b).
  { intros v w B0 V W B. split.
    - destruct W as [W | W]; [| subst; lra]. assert (ln (1 + v) < ln (1 + w)) by (apply ln_increasing; lra). lra.
    - assert (E : ln ((1 + v) * exp b) = ln (1 + v) + b) by (rewrite ln_mult, ln_exp by (try apply exp_pos; lra); ring).
      assert (M := exp_ineq1_le b). assert (F : 1 + w <= (1 + v) * exp b).
      { apply Rle_trans with ((1 + v) * (1 + b)); [lra | apply Rmult_le_compat_l; lra]. }
      destruct F as [F | F]; [apply ln_increasing in F; lra | rewrite F; lra]. }
  intros X Y D B M N. apply Rabs_bounds in D. destruct (Rle_lt_dec x y) as [H | H].
  - rewrite Rabs_pos_eq by (pose proof (K x y B X H); lra). apply K; lra.
  - assert (b * (1 + x - d) <= b * (1 + y)) by (apply Rmult_le_compat_l; lra).
    pose proof (K y x B Y ltac:(lra) ltac:(lra)). rewrite Rabs_left1 by lra. lra.
Qed.

Lemma log_sigmoid_negative x : log_sigmoid x <= 0.
Proof.
  unfold log_sigmoid. assert (P := exp_pos (- x)). assert (ln 1 < ln (1 + exp (- x))) by (apply ln_increasing; lra).
  rewrite ln_1 in *. lra.
Qed.

(** log_sigmoid(x) = min(x, 0) - log1p(exp(-|x|)), as torch computes it. *)
Lemma log_sigmoid_split x : log_sigmoid x = Rmin x 0 - ln (1 + exp (- Rabs x)).
Proof.
  unfold log_sigmoid. destruct (Rle_lt_dec 0 x) as [H | H].
  - rewrite Rmin_right, Rabs_pos_eq by lra. ring.
  - rewrite Rmin_left, Rabs_left, Ropp_involutive by lra.
    assert (E : 1 + exp (- x) = exp (- x) * (1 + exp x)).
    { rewrite Rmult_plus_distr_l, <- exp_plus. replace (- x + x) with 0 by ring. rewrite exp_0. ring. }
    rewrite E, ln_mult, ln_exp by (try apply exp_pos; assert (P := exp_pos x); lra). ring.
Qed.

Lemma log_sigmoid_opposite x : log_sigmoid x = log_sigmoid (- x) + x.
Proof.
  rewrite !log_sigmoid_split, Rabs_Ropp. unfold Rmin. destruct (Rle_dec x 0), (Rle_dec (- x) 0); try lra.
Qed.

Lemma exp_of_minus_Rabs x : 0 < exp (- Rabs x) <= 1.
Proof.
  split; [apply exp_pos |]. rewrite <- exp_0. assert (P := Rabs_pos x).
  destruct P as [P | P]; [left; apply exp_increasing; lra | rewrite <- P, Ropp_0; lra].
Qed.

Lemma log_sigmoid_of_positive x : 0 <= x -> - (7/10) <= log_sigmoid x.
Proof.
  intro X. rewrite log_sigmoid_split, Rmin_right by lra. destruct (exp_of_minus_Rabs x) as [P Q].
  pose proof ln_2_small. replace 2 with (1 + 1) in * by ring.
  destruct Q as [Q | Q]; [| rewrite Q; lra].
  assert (ln (1 + exp (- Rabs x)) < ln (1 + 1)) by (apply ln_increasing; lra). lra.
Qed.

Lemma log_sigmoid_size x : Rabs (log_sigmoid x) <= Rabs x + 7/10.
Proof.
  rewrite Rabs_left1 by apply log_sigmoid_negative. destruct (Rle_lt_dec 0 x) as [H | H].
  - pose proof (log_sigmoid_of_positive x H). pose proof (Rabs_pos x). lra.
  - rewrite log_sigmoid_opposite, Rabs_left by lra. pose proof (log_sigmoid_of_positive (- x)). lra.
Qed.

(** log_sigmoid moves by no more than its argument. *)
Lemma log_sigmoid_lipschitz x y : Rabs (log_sigmoid y - log_sigmoid x) <= Rabs (y - x).
Proof.
  assert (K : forall a b, a <= b -> 0 <= log_sigmoid b - log_sigmoid a <= b - a).
  { intros a b A. unfold log_sigmoid. assert (P := exp_pos (- a)). assert (Q := exp_pos (- b)).
    assert (O : exp (- b) <= exp (- a)) by (destruct A as [A | A]; [left; apply exp_increasing; lra | subst; lra]).
    split.
    - destruct O as [O | O]; [| rewrite O; lra].
      assert (ln (1 + exp (- b)) < ln (1 + exp (- a))) by (apply ln_increasing; lra). lra.
    - assert (E : ln ((1 + exp (- b)) * exp (b - a)) = ln (1 + exp (- b)) + (b - a)).
      { rewrite ln_mult, ln_exp by (try apply exp_pos; lra). reflexivity. }
      assert (F : 1 + exp (- a) <= (1 + exp (- b)) * exp (b - a)).
      { rewrite Rmult_plus_distr_r, <- exp_plus. replace (- b + (b - a)) with (- a) by ring.
        assert (M := exp_ineq1_le (b - a)). lra. }
      destruct F as [F | F]; [apply ln_increasing in F; lra | rewrite F; lra]. }
  destruct (Rle_lt_dec x y) as [H | H].
  - rewrite !Rabs_pos_eq by (pose proof (K x y H); lra). now apply K.
  - rewrite !Rabs_left1 by (pose proof (K y x ltac:(lra)); lra). pose proof (K y x ltac:(lra)). lra.
Qed.

(** logsigmoid of a number y in place of x. *)
Lemma log_sigmoid_error n u eta x y v : 0 < u <= 1/1000 -> 0 <= n <= 2 -> 0 <= eta <= u / 1000 ->
  computes_log_sigmoid n u eta y v ->
  Rabs (v - log_sigmoid x) <= 1001/1000 * Rabs (y - x) + u * Rabs (log_sigmoid x) + (102/100 + 141/100 * n) * u.
Proof.
  intros U N2 H (z & w & Z0 & Z & W & V). unfold within_ulps_near_zero, rounded in *.
  destruct (exp_of_minus_Rabs y) as [P Q]. set (e := exp (- Rabs y)) in *. rewrite (Rabs_pos_eq e) in Z by lra.
  assert (L : Rabs (ln (1 + z) - ln (1 + e)) <= 101/100 * u).
  { apply (ln_1_plus_near e z (1 * (2 * u * e) + eta)); try lra; try exact Z; nra. }
  assert (N : 0 <= ln (1 + e) <= 7/10).
  { pose proof ln_2_small. assert (ln 1 < ln (1 + e)) by (apply ln_increasing; lra). rewrite ln_1 in *.
    replace 2 with (1 + 1) in * by ring.
    destruct Q as [Q | Q]; [| rewrite Q in *; lra].
    assert (ln (1 + e) < ln (1 + 1)) by (apply ln_increasing; lra). lra. }
  assert (nu : 0 <= n * u) by (apply Rmult_le_pos; lra).
  pose proof (shrinks (1/1000) u u ltac:(lra) ltac:(lra)). pose proof (shrinks (1/1000) u (n * u) ltac:(lra) nu).
  assert (A : Rabs (w - ln (1 + e)) <= (1012/1000 + 1403/1000 * n) * u).
  { pose proof (Rabs_step _ _ _ _ _ L W) as A.
    assert (B : Rabs (ln (1 + z)) <= 7/10 + 101/100 * u).
    { pose proof (Rabs_within _ _ _ L) as B. rewrite (Rabs_pos_eq (ln (1 + e))) in B by lra. lra. }
    assert (n * u * Rabs (ln (1 + z)) <= n * u * (7/10 + 101/100 * u)) by (apply Rmult_le_compat_l; lra). lra. }
  assert (B : Rabs (Rmin y 0 - w - log_sigmoid y) <= (1012/1000 + 1403/1000 * n) * u).
  { rewrite log_sigmoid_split. fold e.
    replace (Rmin y 0 - w - (Rmin y 0 - ln (1 + e))) with (- (w - ln (1 + e))) by ring. now rewrite Rabs_Ropp. }
  pose proof (Rabs_step _ _ _ _ _ (log_sigmoid_lipschitz x y) B) as C. pose proof (Rabs_within _ _ _ C) as D.
  pose proof (Rabs_step _ _ _ _ _ C V) as E.
  set (d := Rabs (y - x)) in *. assert (0 <= d) by apply Rabs_pos. set (l := Rabs (log_sigmoid x)) in *.
  assert (u * Rabs (Rmin y 0 - w) <= u * (l + (d + (1012/1000 + 1403/1000 * n) * u))) by (apply Rmult_le_compat_l; lra).
  pose proof (shrinks (1/1000) u d ltac:(lra) ltac:(lra)). lra.
Qed.
