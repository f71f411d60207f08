(** The standard model of floating-point arithmetic, and what the proofs of rounding errors share.

    A real number stands for each number that a kernel computes. u is the unit roundoff of the dtype that the kernel
    computes in: 2^-24 for fp32 and 2^-53 for fp64. The model says how far a result may be from what it should be; it
    says nothing about the bits. It holds while nothing overflows, and, where eta is 0, while nothing underflows. *)
From Coq Require Import Reals Lra Psatz.
Open Scope R_scope.

(** ** What is assumed *)

(** v is x rounded to the nearest, as the result of +, -, *, / of two numbers, or of converting a number, is. *)
Definition rounded (u x v : R) : Prop := Rabs (v - x) <= u * Rabs x.

(** The same where the result may underflow, which costs at most eta. *)
Definition rounded_near_zero (u eta x v : R) : Prop := Rabs (v - x) <= u * Rabs x + eta.

(** v is a library function's result for the exact x, within n ulp. An ulp of x is at most 2u|x|. *)
Definition within_ulps (n u x v : R) : Prop := Rabs (v - x) <= n * (2 * u * Rabs x).

(** The same where the result may underflow. *)
Definition within_ulps_near_zero (n u eta x v : R) : Prop := Rabs (v - x) <= n * (2 * u * Rabs x) + eta.

(** v is x, computed from options in Python's floats: rounded there to fp64, and to fp32 if the kernel computes in fp32.
    The two together cost at most u + 2^-53 (1 + u), less than 1.01 u. *)
Definition rounded_option (u x v : R) : Prop := Rabs (v - x) <= 101/100 * u * Rabs x.

(** The logarithm of the logistic function, and how torch computes it: min(x, 0) - log1p(exp(-|x|)). exp is within
    1 ulp and never negative, log1p is within n ulp. *)
Definition log_sigmoid (x : R) : R := - ln (1 + exp (- x)).

Definition computes_log_sigmoid (n u eta x v : R) : Prop := exists z w : R,
  0 <= z /\
  within_ulps_near_zero 1 u eta (exp (- Rabs x)) z /\  (* z = exp(-|x|) *)
  within_ulps_near_zero n u eta (ln (1 + z)) w /\      (* w = log1p(z) *)
  rounded u (Rmin x 0 - w) v.                          (* v = min(x, 0) - w *)

(** ** What follows *)

Lemma Rabs_bounds x b : Rabs x <= b -> - b <= x <= b.
Proof. unfold Rabs; destruct (Rcase_abs x); lra. Qed.

Lemma Rabs_within x y b : Rabs (y - x) <= b -> Rabs y <= Rabs x + b.
Proof. intro H. replace y with (x + (y - x)) by ring. eapply Rle_trans; [apply Rabs_triang | lra]. Qed.

Lemma Rabs_step x y z a b : Rabs (y - x) <= a -> Rabs (z - y) <= b -> Rabs (z - x) <= a + b.
Proof.
  intros A B. replace (z - x) with ((z - y) + (y - x)) by ring. eapply Rle_trans; [apply Rabs_triang | lra].
Qed.

Lemma shrinks c u x : u <= c -> 0 <= x -> u * x <= c * x.
Proof. intros. now apply Rmult_le_compat_r. Qed.

(** exp(x) - 1 for a small x. *)
Lemma exp_near_1 x t : 0 <= t <= 1/100 -> Rabs x <= t -> Rabs (exp x - 1) <= t + 2 * t * t.
Proof.
  intros T B. apply Rabs_bounds in B. apply Rabs_le.
  assert (L := exp_ineq1_le x). assert (M := exp_ineq1_le (- x)). rewrite exp_Ropp in M. assert (P := exp_pos x).
  assert (N : exp x * (1 - x) <= 1).
  { apply (Rmult_le_compat_l (exp x)) in M; [rewrite Rinv_r in M; lra | lra]. }
  split; nra.
Qed.

(** An error in the argument of exp. *)
Lemma exp_of_near x y t : 0 <= t <= 1/100 -> Rabs (y - x) <= t -> Rabs (exp y - exp x) <= (t + 2 * t * t) * exp x.
Proof.
  intros T B. replace (exp y) with (exp x * exp (y - x)) by (rewrite <- exp_plus; f_equal; ring).
  replace (exp x * exp (y - x) - exp x) with (exp x * (exp (y - x) - 1)) by ring.
  assert (P := exp_pos x). rewrite Rabs_mult, (Rabs_pos_eq (exp x)), Rmult_comm by lra.
  apply Rmult_le_compat_r; [lra | now apply exp_near_1].
Qed.

(** The importance ratio exp(x), from a difference d and an exponential within n ulp. *)
Lemma ratio_error n u x d rho : 0 < u <= 1/1000 -> 0 <= n <= 1 -> u * Rabs x <= 1/100 ->
  rounded u x d -> within_ulps n u (exp d) rho ->
  Rabs (rho - exp x) <= (102/100 * (u * Rabs x) + 204/100 * (n * u)) * exp x.
Proof.
  intros U N T D E. unfold rounded, within_ulps in *. set (t := u * Rabs x) in *.
  assert (T0 : 0 <= t) by (apply Rmult_le_pos; [lra | apply Rabs_pos]).
  pose proof (exp_of_near x d t (conj T0 T) D) as X. pose proof (exp_pos x) as P. pose proof (exp_pos d) as Q.
  rewrite (Rabs_pos_eq (exp d)) in E by lra. set (e := exp x) in *. set (f := exp d) in *.
  assert (M : t * (t * e) <= 1/100 * (t * e)) by (apply shrinks; [lra | apply Rmult_le_pos; lra]).
  assert (O : t * e <= 1/100 * e) by (apply shrinks; lra).
  apply Rabs_bounds in X. apply Rabs_bounds in E.
  assert (F : f <= 102/100 * e) by lra. assert (0 <= n * u) by (apply Rmult_le_pos; lra).
  assert (G : (n * u) * f <= (n * u) * (102/100 * e)) by (apply Rmult_le_compat_l; lra).
  apply Rabs_le. lra.
Qed.

(** A product with a number that has a relative error q. *)
Lemma product_error u q x y a v : 0 <= u -> 0 <= q -> Rabs (y - x) <= q * Rabs x -> rounded u (y * a) v ->
  Rabs (v - x * a) <= (q + u * (1 + q)) * Rabs (x * a).
Proof.
  intros U Q Y V. unfold rounded in V.
  assert (M : Rabs (y * a - x * a) <= q * Rabs (x * a)).
  { replace (y * a - x * a) with ((y - x) * a) by ring. rewrite !Rabs_mult, <- Rmult_assoc.
    apply Rmult_le_compat_r; [apply Rabs_pos | exact Y]. }
  pose proof (Rabs_within _ _ _ M) as W. pose proof (Rabs_step _ _ _ _ _ M V) as F.
  assert (u * Rabs (y * a) <= u * (Rabs (x * a) + q * Rabs (x * a))) by (apply Rmult_le_compat_l; lra). lra.
Qed.

(** Minima and maxima of numbers >= 0 keep a relative error. *)
Definition near (q x y : R) : Prop := 0 <= x /\ (1 - q) * x <= y <= (1 + q) * x.

Lemma near_of q x y : 0 <= x -> Rabs (y - x) <= q * x -> near q x y.
Proof. intros X H. apply Rabs_bounds in H. unfold near. lra. Qed.

Lemma near_error q x y : near q x y -> Rabs (y - x) <= q * Rabs x.
Proof. intros [X H]. rewrite (Rabs_pos_eq x) by lra. apply Rabs_le. lra. Qed.

Lemma near_min q x y x' y' : 0 <= q <= 1 -> near q x x' -> near q y y' -> near q (Rmin x y) (Rmin x' y').
Proof. unfold near, Rmin. intros; destruct (Rle_dec x y), (Rle_dec x' y'); nra. Qed.

Lemma near_max q x y x' y' : 0 <= q <= 1 -> near q x x' -> near q y y' -> near q (Rmax x y) (Rmax x' y').
Proof. unfold near, Rmax. intros; destruct (Rle_dec x y), (Rle_dec x' y'); nra. Qed.

Lemma near_option q u x v : 0 <= x -> 101/100 * u <= q -> rounded_option u x v -> near q x v.
Proof.
  intros X Q H. apply near_of; [exact X |]. unfold rounded_option in H. rewrite (Rabs_pos_eq x) in H by lra.
  eapply Rle_trans; [exact H | now apply Rmult_le_compat_r].
Qed.
