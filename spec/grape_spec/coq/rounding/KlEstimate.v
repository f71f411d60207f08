(** The rounding errors of [kl_estimate]: k1, k2 and k3. *)
From Coq Require Import Reals Lra Psatz.
From Rounding Require Import Model.
Open Scope R_scope.

Theorem kl_estimate_k1_error (u logp ref_logp v : R) :
  rounded u (logp - ref_logp) v ->
  Rabs (v - (logp - ref_logp)) <= u * Rabs (logp - ref_logp).
Proof. exact (fun H => H). Qed.

(** k2 = (logp - ref_logp)^2 / 2: halving is exact. *)
Theorem kl_estimate_k2_error (u logp ref_logp d s v : R) :
  0 < u <= 1/1000 ->
  rounded u (logp - ref_logp) d ->
  rounded u (d * d) s ->
  v = s / 2 ->
  let value := (logp - ref_logp) ^ 2 / 2 in
  Rabs (v - value) <= 4 * u * value.
Proof.
  intros U D S E value. unfold rounded in *. subst v. unfold value. set (x := logp - ref_logp) in *.
  assert (M : Rabs (d * d - x * x) <= 201/100 * u * (x * x)).
  { set (y := d - x) in *. replace d with (x + y) by (unfold y; ring).
    replace ((x + y) * (x + y) - x * x) with (y * (2 * x + y)) by ring. rewrite Rabs_mult.
    assert (A : Rabs (2 * x + y) <= 2 * Rabs x + Rabs y).
    { eapply Rle_trans; [apply Rabs_triang |]. rewrite Rabs_mult, (Rabs_pos_eq 2); lra. }
    assert (X := Rabs_pos x). assert (Y := Rabs_pos y).
    assert (Z : x * x = Rabs x * Rabs x) by (rewrite <- Rabs_mult; symmetry; apply Rabs_pos_eq; nra).
    rewrite Z. set (m := Rabs x) in *. apply Rle_trans with (u * m * (2 * m + u * m)).
    - apply Rmult_le_compat; [lra | apply Rabs_pos | lra | lra].
    - assert (0 <= u * (m * m)) by (apply Rmult_le_pos; nra). nra. }
  assert (X : 0 <= x * x) by nra. rewrite (Rabs_pos_eq (d * d)) in S by nra.
  apply Rabs_bounds in M. apply Rabs_bounds in S. apply Rabs_le. nra.
Qed.

(** k3 = exp(x) - 1 - x with x = ref_logp - logp, from d = logp - ref_logp as expm1(-d) + d. *)
Definition k3 (x : R) : R := exp x - 1 - x.

(** An error y of x moves k3 by y times its slope exp(x) - 1, and by at most 2y^2 exp(x) more. *)
Lemma k3_near x y : Rabs y <= 1/100 -> Rabs (k3 (x + y) - k3 x) <= Rabs y * Rabs (exp x - 1) + 2 * y ^ 2 * exp x.
Proof.
  intro Y. unfold k3. rewrite exp_plus. apply Rabs_bounds in Y.
  replace (exp x * exp y - 1 - (x + y) - (exp x - 1 - x)) with (y * (exp x - 1) + exp x * (exp y - 1 - y)) by ring.
  eapply Rle_trans; [apply Rabs_triang |]. rewrite !Rabs_mult. apply Rplus_le_compat_l.
  assert (P := exp_pos x). rewrite (Rabs_pos_eq (exp x)), Rmult_comm by lra. apply Rmult_le_compat_r; [lra |].
  assert (L := exp_ineq1_le y). assert (M := exp_ineq1_le (- y)). rewrite exp_Ropp in M. assert (Q := exp_pos y).
  assert (N : exp y * (1 - y) <= 1).
  { apply (Rmult_le_compat_l (exp y)) in M; [rewrite Rinv_r in M; lra | lra]. }
  rewrite Rabs_pos_eq by lra. assert (exp y - 1 - y <= y ^ 2 + y * (exp y - 1 - y)) by nra. nra.
Qed.

(** What an error t of x does to exp(x), and how exp(x) - 1 compares with x. *)
Lemma expm1_size x : Rabs (exp x - 1) <= Rabs x * (1 + Rabs (exp x - 1)).
Proof.
  assert (L := exp_ineq1_le x). assert (M := exp_ineq1_le (- x)). rewrite exp_Ropp in M. assert (P := exp_pos x).
  apply (Rmult_le_compat_l (exp x)) in M; [| lra]. rewrite Rinv_r in M by lra.
  unfold Rabs. destruct (Rcase_abs x), (Rcase_abs (exp x - 1)); nra.
Qed.

Lemma exp_size x : exp x <= 1 + Rabs (exp x - 1).
Proof. unfold Rabs; destruct (Rcase_abs _); lra. Qed.

(** The result e of expm1 for x', which is x up to an error t = u|x|, within n ulp. *)
Lemma expm1_near n u x x' e : 0 < u <= 1/1000 -> 0 <= n <= 2 -> u * Rabs x <= 1/100 ->
  Rabs (x' - x) <= u * Rabs x -> within_ulps n u (exp x' - 1) e ->
  Rabs (e - (exp x' - 1)) <= 205/100 * (n * u) * (Rabs (exp x - 1) + u * Rabs x).
Proof.
  intros U N T X E. unfold within_ulps in E. set (t := u * Rabs x) in *.
  assert (T0 : 0 <= t) by (apply Rmult_le_pos; [lra | apply Rabs_pos]).
  pose proof (exp_of_near x x' t (conj T0 T) X) as M. pose proof (exp_size x) as S.
  assert (A : Rabs (exp x' - 1) <= Rabs (exp x - 1) + (t + 2 * t * t) * exp x).
  { apply Rabs_within. replace (exp x' - 1 - (exp x - 1)) with (exp x' - exp x) by ring. exact M. }
  set (a := Rabs (exp x - 1)) in *. assert (0 <= a) by apply Rabs_pos. pose proof (exp_pos x).
  assert (t * t <= t / 100) by nra. assert (B : (t + 2 * t * t) * exp x <= 102/100 * t * (1 + a)) by nra.
  set (b := Rabs (exp x' - 1)) in *. assert (b <= 1021/1000 * a + 102/100 * t) by nra.
  eapply Rle_trans; [exact E |]. assert (0 <= n * u <= 2/1000) by nra.
  assert ((n * u) * b <= (n * u) * (1021/1000 * a + 102/100 * t)) by (apply Rmult_le_compat_l; lra). nra.
Qed.

(** The value, for an expm1 within 2 ulp. *)
Theorem kl_estimate_k3_error (u logp ref_logp d e v : R) :
  0 < u <= 1/1000 ->
  let x := ref_logp - logp in
  u * Rabs x <= 1/100 ->   (* holds wherever exp(x) neither saturates nor underflows *)
  rounded u (logp - ref_logp) d ->
  within_ulps 2 u (exp (- d) - 1) e ->
  rounded u (e + d) v ->
  Rabs (v - k3 x) <= 4 * u * ((Rabs x + 1) * Rabs (exp x - 1) + Rabs x).
Proof.
  intros U x T D E V.
  assert (X : Rabs (- d - x) <= u * Rabs x).
  { unfold rounded in D. unfold x. rewrite <- Rabs_Ropp, <- (Rabs_Ropp (ref_logp - logp)).
    replace (- (- d - (ref_logp - logp))) with (d - (logp - ref_logp)) by ring.
    replace (- (ref_logp - logp)) with (logp - ref_logp) by ring. exact D. }
  pose proof (expm1_near 2 u x (- d) e U ltac:(lra) T X E) as M. set (y := - d - x) in *.
  pose proof (k3_near x y ltac:(lra)) as K. rewrite <- (pow2_abs y) in K.
  pose proof (expm1_size x) as A. pose proof (exp_size x) as S.
  assert (W : Rabs (e + d - k3 (x + y)) <= 41/10 * u * Rabs (exp x - 1) + 1/100 * (u * Rabs x)).
  { assert (0 <= u * Rabs x) by (apply Rmult_le_pos; [lra | apply Rabs_pos]).
    assert (u * (u * Rabs x) <= 1/1000 * (u * Rabs x)) by (apply Rmult_le_compat_r; lra).
    unfold k3. replace (e + d - (exp (x + y) - 1 - (x + y))) with (e - (exp (- d) - 1)).
    - lra.
    - replace (x + y) with (- d) by (unfold y; ring). ring. }
  unfold rounded in V. pose proof (Rabs_step _ _ _ _ _ K W) as F. pose proof (Rabs_within _ _ _ F) as G.
  pose proof (Rabs_step _ _ _ _ _ F V) as H.
  assert (J : Rabs (k3 x) <= Rabs (exp x - 1) + Rabs x).
  { unfold k3. eapply Rle_trans; [apply (Rabs_triang (exp x - 1) (- x)) | rewrite Rabs_Ropp; lra]. }
  set (a := Rabs (exp x - 1)) in *. set (m := Rabs x) in *. set (s := Rabs y) in *.
  assert (0 <= a) by apply Rabs_pos. assert (0 <= m) by apply Rabs_pos. assert (0 <= s) by apply Rabs_pos.
  assert (P := exp_pos x).
  set (t := u * m) in *. assert (0 <= t) by (apply Rmult_le_pos; lra).
  assert (2 * s ^ 2 * exp x <= t / 50 * (1 + a)).
  { apply Rmult_le_compat; [nra | lra | nra | lra]. }
  assert (s * a <= t * a) by (apply Rmult_le_compat_r; lra).
  set (f := s * a + 2 * s ^ 2 * exp x + (41/10 * u * a + 1/100 * t)) in *.
  assert (f <= 102/100 * (t * a) + 41/10 * u * a + 3/100 * t) by (unfold f; lra).
  assert (u * Rabs (e + d) <= u * (a + m + f)) by (apply Rmult_le_compat_l; lra).
  replace (4 * u * ((m + 1) * a + m)) with (4 * (t * a) + 4 * (u * a) + 4 * t) by (unfold t; ring).
  assert (u * a <= t + t * a).
  { replace (t + t * a) with (u * (m * (1 + a))) by (unfold t; ring). apply Rmult_le_compat_l; lra. }
  assert (0 <= u * a) by (apply Rmult_le_pos; lra). assert (0 <= t * a) by (apply Rmult_le_pos; lra).
  pose proof (shrinks (1/1000) u (u * a) ltac:(lra) ltac:(lra)).
  pose proof (shrinks (1/1000) u t ltac:(lra) ltac:(lra)).
  pose proof (shrinks (1/1000) u (t * a) ltac:(lra) ltac:(lra)).
  assert (u * f <= u * (102/100 * (t * a) + 41/10 * u * a + 3/100 * t)) by (apply Rmult_le_compat_l; lra).
  assert (u * (a + m + f) = u * a + t + u * f) by (unfold t; ring). lra.
Qed.

(** The slope in logp, 1 - exp(x), from the backward pass of expm1, e + 1; for an expm1 within 1 ulp. *)
Theorem kl_estimate_k3_slope_error (u logp ref_logp d e r s : R) :
  0 < u <= 1/1000 ->
  let x := ref_logp - logp in
  u * Rabs x <= 1/100 ->   (* holds wherever exp(x) neither saturates nor underflows *)
  rounded u (logp - ref_logp) d ->
  within_ulps 1 u (exp (- d) - 1) e ->
  rounded u (e + 1) r ->
  rounded u (1 - r) s ->
  Rabs (s - (1 - exp x)) <= 4 * u * ((Rabs x + 1) * exp x + 1).
Proof.
  intros U x T D E V W.
  assert (X : Rabs (- d - x) <= u * Rabs x).
  { unfold rounded in D. unfold x. rewrite <- Rabs_Ropp, <- (Rabs_Ropp (ref_logp - logp)).
    replace (- (- d - (ref_logp - logp))) with (d - (logp - ref_logp)) by ring.
    replace (- (ref_logp - logp)) with (logp - ref_logp) by ring. exact D. }
  pose proof (expm1_near 1 u x (- d) e U ltac:(lra) T X E) as M. unfold rounded in V, W.
  set (t := u * Rabs x) in *. assert (T0 : 0 <= t) by (apply Rmult_le_pos; [lra | apply Rabs_pos]).
  pose proof (exp_of_near x (- d) t (conj T0 T) X) as N. pose proof (expm1_size x) as A. pose proof (exp_pos x) as P.
  assert (0 <= u * exp x) by (apply Rmult_le_pos; lra). assert (0 <= t * exp x) by (apply Rmult_le_pos; lra).
  replace (4 * u * ((Rabs x + 1) * exp x + 1)) with (4 * (t * exp x) + 4 * (u * exp x) + 4 * u) by (unfold t; ring).
  (* a = |exp(x) - 1| is at most 1 below x = 0, and above it at most both exp(x) and |x| exp(x). *)
  assert (B : u * Rabs (exp x - 1) <= u \/ u * Rabs (exp x - 1) <= u * exp x /\ u * Rabs (exp x - 1) <= t * exp x).
  { destruct (Rle_lt_dec (exp x) 1) as [Y | Y].
    - left. rewrite Rabs_left1 by lra. nra.
    - right. rewrite Rabs_pos_eq in * by lra. split; [nra |]. unfold t.
      replace (u * Rabs x * exp x) with (u * (Rabs x * exp x)) by ring. apply Rmult_le_compat_l; lra. }
  assert (F : Rabs (e + 1 - exp x) <= 102/100 * (t * exp x) + 205/100 * u * (Rabs (exp x - 1) + t)).
  { apply Rabs_bounds in M. apply Rabs_bounds in N. apply Rabs_le.
    pose proof (shrinks (1/100) t (t * exp x) T ltac:(lra)). lra. }
  pose proof (Rabs_within _ _ _ F) as F'. rewrite (Rabs_pos_eq (exp x)) in F' by lra.
  pose proof (Rabs_step _ _ _ _ _ F V) as G. rewrite <- Rabs_Ropp in G.
  replace (- (r - exp x)) with (1 - r - (1 - exp x)) in G by ring.
  pose proof (Rabs_within _ _ _ G) as I. pose proof (Rabs_step _ _ _ _ _ G W) as J.
  rewrite (Rabs_minus_sym 1 (exp x)) in I.
  set (a := Rabs (exp x - 1)) in *. set (g := Rabs (e + 1)) in *. set (h := Rabs (1 - r)) in *.
  assert (0 <= a) by apply Rabs_pos. assert (0 <= u * a) by (apply Rmult_le_pos; lra).
  assert (0 <= t * u) by (apply Rmult_le_pos; lra). pose proof (shrinks (1/100) t u T ltac:(lra)).
  assert (K : u * g <= u * (exp x + (102/100 * (t * exp x) + 205/100 * u * (a + t)))) by (apply Rmult_le_compat_l; lra).
  assert (L : u * h <= u * (a + (102/100 * (t * exp x) + 205/100 * u * (a + t) + u * g)))
    by (apply Rmult_le_compat_l; lra).
  assert (0 <= u * g) by (apply Rmult_le_pos; [lra | apply Rabs_pos]).
  pose proof (shrinks (1/1000) u (u * a) ltac:(lra) ltac:(lra)).
  pose proof (shrinks (1/1000) u (t * exp x) ltac:(lra) ltac:(lra)).
  pose proof (shrinks (1/1000) u (u * exp x) ltac:(lra) ltac:(lra)).
  pose proof (shrinks (1/1000) u (t * u) ltac:(lra) ltac:(lra)).
  pose proof (shrinks (1/1000) u (u * g) ltac:(lra) ltac:(lra)).
  destruct B as [B | [B B']]; lra.
Qed.
