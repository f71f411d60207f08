(** The rounding error of [aggregate], in any order of summation. *)
From Coq Require Import Arith Reals Lra Psatz Lia.
From Rounding Require Import Model.
Open Scope R_scope.

(** A reduction: values, sums of two reductions, and a reduction over a number > 0. "token_mean" is a sum over D,
    "fixed_length" a sum over the length over D, "sequence_mean" a sum, over D, of sums each over its own length. How
    sums are nested is the order of summation. *)
Inductive reduction : Type :=
  | value (x : R)
  | sum (a b : reduction)
  | over (a : reduction) (number : R).

Fixpoint exact (r : reduction) : R :=
  match r with value x => x | sum a b => exact a + exact b | over a n => exact a / n end.

(** The same reduction of the absolute values. *)
Fixpoint size (r : reduction) : R :=
  match r with value x => Rabs x | sum a b => size a + size b | over a n => size a / n end.

(** On the way of a value to the result: the most additions, and the most divisions. *)
Fixpoint additions (r : reduction) : nat :=
  match r with value _ => 0 | sum a b => S (max (additions a) (additions b)) | over a _ => additions a end.

Fixpoint divisions (r : reduction) : nat :=
  match r with value _ => 0 | sum a b => max (divisions a) (divisions b) | over a _ => S (divisions a) end.

Fixpoint positive (r : reduction) : Prop :=
  match r with value _ => True | sum a b => positive a /\ positive b | over a n => 0 < n /\ positive a end.

(** v is what a computer makes of a reduction: each sum and each quotient is rounded, and each number that is divided by
    is first rounded to the dtype. *)
Inductive computes (u : R) : reduction -> R -> Prop :=
  | computes_value x : computes u (value x) x
  | computes_sum a b x y v : computes u a x -> computes u b y -> rounded u (x + y) v -> computes u (sum a b) v
  | computes_over a n x n' v : computes u a x -> rounded u n n' -> rounded u (x / n') v -> computes u (over a n) v.

Lemma size_0 r : positive r -> 0 <= size r.
Proof.
  induction r as [x | a A b B | a A n]; simpl; intro P; [apply Rabs_pos | |].
  - destruct P. apply Rplus_le_le_0_compat; auto.
  - destruct P. unfold Rdiv. apply Rmult_le_pos; [auto | left; now apply Rinv_0_lt_compat].
Qed.

Lemma exact_size r : positive r -> Rabs (exact r) <= size r.
Proof.
  induction r as [x | a A b B | a A n]; simpl; intro P; [apply Rle_refl | |].
  - destruct P as [P Q]. eapply Rle_trans; [apply Rabs_triang |]. specialize (A P). specialize (B Q). lra.
  - destruct P as [P Q]. unfold Rdiv. rewrite Rabs_mult, (Rabs_pos_eq (/ n)) by (left; now apply Rinv_0_lt_compat).
    apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat | auto].
Qed.

(** One rounding more. *)
Lemma one_more u e x w v s : 0 <= u -> 0 <= s -> Rabs x <= s -> Rabs (w - x) <= e * s -> rounded u w v ->
  Rabs (v - x) <= ((1 + e) * (1 + u) - 1) * s.
Proof.
  intros U S X W V. unfold rounded in V. pose proof (Rabs_within _ _ _ W) as B.
  pose proof (Rabs_step _ _ _ _ _ W V) as F.
  assert (u * Rabs w <= u * (s + e * s)) by (apply Rmult_le_compat_l; lra). lra.
Qed.

(** An inexact divisor costs as much as two roundings. *)
Lemma inexact_divisor u e x n x' n' s : 0 < u <= 1/1000 -> 0 < n -> 0 <= e -> Rabs x <= s -> Rabs (x' - x) <= e * s ->
  rounded u n n' -> Rabs (x' / n' - x / n) <= ((1 + e) * (1 + u) ^ 2 - 1) * (s / n).
Proof.
  intros U N E X D M. unfold rounded in M. rewrite (Rabs_pos_eq n) in M by lra. apply Rabs_bounds in M.
  assert (N' : 0 < n') by nra. set (k := n / n').
  assert (K : Rabs (k - 1) <= 101/100 * u).
  { unfold k. replace (n / n' - 1) with ((n - n') * / n') by (field; lra).
    rewrite Rabs_mult, (Rabs_pos_eq (/ n')) by (left; now apply Rinv_0_lt_compat).
    apply (Rmult_le_reg_r n'); [exact N' |]. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
    apply Rle_trans with (u * n); [apply Rabs_le; lra | nra]. }
  replace (x' / n' - x / n) with ((k * (x' - x) + (k - 1) * x) * / n) by (unfold k; field; lra).
  unfold Rdiv. rewrite Rabs_mult, (Rabs_pos_eq (/ n)), <- Rmult_assoc by (left; now apply Rinv_0_lt_compat).
  apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat |].
  eapply Rle_trans; [apply Rabs_triang |]. rewrite !Rabs_mult.
  assert (k1 : Rabs k <= 1 + 101/100 * u).
  { pose proof (Rabs_within _ _ _ K) as B. rewrite Rabs_R1 in B. exact B. }
  assert (S : 0 <= s) by (eapply Rle_trans; [apply Rabs_pos | exact X]).
  assert (A : Rabs k * Rabs (x' - x) <= (1 + 101/100 * u) * (e * s)).
  { apply Rmult_le_compat; [apply Rabs_pos | apply Rabs_pos | exact k1 | exact D]. }
  assert (B : Rabs (k - 1) * Rabs x <= 101/100 * u * s).
  { apply Rmult_le_compat; [apply Rabs_pos | apply Rabs_pos | exact K | exact X]. }
  assert (0 <= u * s) by (apply Rmult_le_pos; lra).
  assert (0 <= u * (e * s)) by (apply Rmult_le_pos; [lra | now apply Rmult_le_pos]).
  assert (0 <= (1 + e) * (u * u) * s) by (apply Rmult_le_pos; [apply Rmult_le_pos; nra | exact S]). nra.
Qed.

Definition roundings (r : reduction) : nat := additions r + 3 * divisions r.

Lemma aggregate_error_power u r v : 0 < u <= 1/1000 -> positive r -> computes u r v ->
  Rabs (v - exact r) <= ((1 + u) ^ roundings r - 1) * size r.
Proof.
  intros U P C.
  assert (grows : forall m n, (m <= n)%nat -> 1 <= (1 + u) ^ m <= (1 + u) ^ n).
  { intros m n M. split; [apply pow_R1_Rle; lra | apply Rle_pow; [lra | exact M]]. }
  revert P. induction C as [x | a b x y v A IA B IB V | a n x n' v A IA N V];
    cbn [exact size positive]; intro P.
  - rewrite Rminus_eq_0, Rabs_R0. unfold roundings. simpl. lra.
  - destruct P as [P Q]. specialize (IA P). specialize (IB Q).
    set (k := max (roundings a) (roundings b)).
    pose proof (grows (roundings a) k (Nat.le_max_l _ _)). pose proof (grows (roundings b) k (Nat.le_max_r _ _)).
    pose proof (size_0 a P). pose proof (size_0 b Q).
    assert (W : Rabs (x + y - (exact a + exact b)) <= ((1 + u) ^ k - 1) * (size a + size b)).
    { replace (x + y - (exact a + exact b)) with ((x - exact a) + (y - exact b)) by ring.
      eapply Rle_trans; [apply Rabs_triang |].
      assert (((1 + u) ^ roundings a - 1) * size a <= ((1 + u) ^ k - 1) * size a) by (apply Rmult_le_compat_r; lra).
      assert (((1 + u) ^ roundings b - 1) * size b <= ((1 + u) ^ k - 1) * size b) by (apply Rmult_le_compat_r; lra).
      lra. }
    pose proof (exact_size (sum a b) (conj P Q)) as X. cbn [exact size] in X.
    pose proof (one_more u _ _ _ _ (size a + size b) ltac:(lra) ltac:(lra) X W V) as F.
    eapply Rle_trans; [exact F |]. apply Rmult_le_compat_r; [lra |].
    replace ((1 + ((1 + u) ^ k - 1)) * (1 + u)) with ((1 + u) ^ S k) by (simpl; ring).
    assert (more : (S k <= roundings (sum a b))%nat) by (unfold k, roundings; cbn [additions divisions]; lia).
    pose proof (grows _ _ more). lra.
  - destruct P as [P Q]. specialize (IA Q). pose proof (exact_size a Q) as X. pose proof (size_0 a Q).
    set (k := roundings a) in *. pose proof (grows 0%nat k ltac:(lia)).
    pose proof (inexact_divisor u ((1 + u) ^ k - 1) _ n _ n' _ U P ltac:(lra) X IA N) as W.
    pose proof (exact_size (over a n) (conj P Q)) as X'. pose proof (size_0 (over a n) (conj P Q)).
    cbn [exact size] in *.
    pose proof (one_more u _ _ _ _ (size a / n) ltac:(lra) ltac:(lra) X' W V) as F.
    eapply Rle_trans; [exact F |]. apply Rmult_le_compat_r; [lra |].
    replace (roundings (over a n)) with (k + 3)%nat by (unfold k, roundings; cbn [additions divisions]; lia).
    rewrite pow_add. right. simpl. ring.
Qed.

(** (1 + u)^n - 1 is about n u. *)
Lemma power_near u n : 0 <= u -> INR n * u <= 1/200 -> (1 + u) ^ n - 1 <= 101/100 * (INR n * u).
Proof.
  intros U H. assert (K : (1 + u) ^ n * (1 - INR n * u) <= 1).
  { clear H. induction n as [| n I]; [simpl; lra |]. rewrite S_INR. simpl.
    assert (0 < (1 + u) ^ n) by (apply pow_lt; lra). assert (0 <= INR n) by apply pos_INR.
    assert (0 <= (1 + u) ^ n * (u * u * (INR n + 1))) by (apply Rmult_le_pos; [lra | apply Rmult_le_pos; nra]).
    replace ((1 + u) * (1 + u) ^ n * (1 - (INR n + 1) * u)) with
      ((1 + u) ^ n * (1 - INR n * u) - (1 + u) ^ n * (u * u * (INR n + 1))) by ring. lra. }
  assert (0 <= INR n) by apply pos_INR. set (t := INR n * u) in *. assert (0 <= t) by (apply Rmult_le_pos; lra).
  set (p := (1 + u) ^ n) in *.
  (* (p - 1) (1 - t) <= t *)
  assert (199/200 * p <= p * (1 - t)).
  { rewrite (Rmult_comm (199/200)). apply Rmult_le_compat_l; [apply pow_le |]; lra. }
  assert (p * t <= 200/199 * t) by (apply Rmult_le_compat_r; lra). lra.
Qed.

Theorem aggregate_error (u : R) (r : reduction) (v : R) :
  0 < u <= 1/1000 ->
  positive r ->
  computes u r v ->
  let h := INR (additions r) in
  (divisions r <= 2)%nat ->
  (h + 6) * u <= 1/200 ->
  Rabs (v - exact r) <= 101/100 * (h + 6) * u * size r.
Proof.
  intros U P C h D H. pose proof (aggregate_error_power u r v U P C) as F. pose proof (size_0 r P).
  eapply Rle_trans; [exact F |]. apply Rmult_le_compat_r; [assumption |].
  assert (N : INR (roundings r) <= h + 6).
  { unfold roundings, h. rewrite plus_INR. apply Rplus_le_compat_l. replace 6 with (INR 6) by (simpl; ring).
    apply le_INR. lia. }
  pose proof (Rmult_le_compat_r u _ _ ltac:(lra) N). pose proof (power_near u (roundings r) ltac:(lra) ltac:(lra)). lra.
Qed.
