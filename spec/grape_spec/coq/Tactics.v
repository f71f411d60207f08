(** Lemmas and tactics that the proofs of the claims use. The kernel of Coq checks all of it: no statement depends on it. *)
From Coq Require Import Reals Lra Lia Psatz Arith List FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
From Grape Require Export Definitions.
Import ListNotations.
Open Scope R_scope.

(* -- sums ------------------------------------------------------------------------------------------------- *)

Lemma sum1_ext n f g : (forall i, (1 <= i <= n)%nat -> f i = g i) -> sum1 n f = sum1 n g.
Proof. induction n; simpl; intros H; auto. rewrite IHn, H by (intros; auto; try apply H; lia). auto. Qed.
Lemma prod1_ext n f g : (forall i, (1 <= i <= n)%nat -> f i = g i) -> prod1 n f = prod1 n g.
Proof. induction n; simpl; intros H; auto. rewrite IHn, H by (intros; auto; try apply H; lia). auto. Qed.
Lemma sum1_plus n f g : sum1 n (fun i => f i + g i) = sum1 n f + sum1 n g.
Proof. induction n; simpl; [ring | rewrite IHn; ring]. Qed.
Lemma sum1_scal n c f : sum1 n (fun i => c * f i) = c * sum1 n f.
Proof. induction n; simpl; [ring | rewrite IHn; ring]. Qed.
Lemma sum1_zero n : sum1 n (fun _ => 0) = 0.
Proof. induction n; simpl; [auto | rewrite IHn; ring]. Qed.
Lemma sum1_const n c : sum1 n (fun _ => c) = INR n * c.
Proof. induction n; [simpl; ring | change (sum1 (S n) (fun _ => c)) with (sum1 n (fun _ => c) + c); rewrite IHn, S_INR; ring]. Qed.
Lemma sum1_swap n m f : sum1 n (fun i => sum1 m (fun j => f i j)) = sum1 m (fun j => sum1 n (fun i => f i j)).
Proof.
  induction n; simpl. - symmetry; apply sum1_zero. - rewrite IHn, <- sum1_plus; auto.
Qed.
Lemma sum1_swap_scal n m (f : nat -> R) g :
  sum1 n (fun i => f i * sum1 m (fun j => g i j)) = sum1 m (fun j => sum1 n (fun i => f i * g i j)).
Proof. rewrite <- (sum1_swap n m (fun i j => f i * g i j)). apply sum1_ext; intros. symmetry; apply sum1_scal. Qed.
Lemma sum1_le n f g : (forall i, (1 <= i <= n)%nat -> f i <= g i) -> sum1 n f <= sum1 n g.
Proof. induction n; simpl; intros H; [lra | apply Rplus_le_compat; [apply IHn; intros; apply H; lia | apply H; lia]]. Qed.
Lemma sum1_nonneg n f : (forall i, (1 <= i <= n)%nat -> 0 <= f i) -> 0 <= sum1 n f.
Proof. intros H. rewrite <- (sum1_zero n). apply sum1_le; auto. Qed.
Lemma sum1_pos n f : (1 <= n)%nat -> (forall i, (1 <= i <= n)%nat -> 0 < f i) -> 0 < sum1 n f.
Proof.
  intros Hn H. destruct n; [lia |]. simpl. apply Rplus_le_lt_0_compat; [| apply H; lia].
  apply sum1_nonneg; intros; left; apply H; lia.
Qed.
Lemma prod1_pos n f : (forall i, (1 <= i <= n)%nat -> 0 < f i) -> 0 < prod1 n f.
Proof. induction n; simpl; intros H; [lra | apply Rmult_lt_0_compat; [apply IHn; intros; apply H; lia | apply H; lia]]. Qed.
Lemma delta_self i : delta i i = 1.
Proof. unfold delta; destruct (Nat.eq_dec i i); [auto | lia]. Qed.
Lemma delta_other i j : i <> j -> delta i j = 0.
Proof. unfold delta; destruct (Nat.eq_dec i j); [lia | auto]. Qed.
Lemma delta_bounds i j : 0 <= delta i j /\ 0 <= 1 + - delta i j.
Proof. unfold delta; destruct (Nat.eq_dec i j); lra. Qed.
Lemma delta_cases i j : delta i j = 1 \/ delta i j = 0.
Proof. unfold delta; destruct (Nat.eq_dec i j); auto. Qed.
Lemma delta_sym i j : delta i j = delta j i.
Proof. unfold delta; destruct (Nat.eq_dec i j), (Nat.eq_dec j i); auto; lia. Qed.
Lemma sum1_pick_out n k f : ~ (1 <= k <= n)%nat -> sum1 n (fun i => delta i k * f i) = 0.
Proof.
  intros H. rewrite <- (sum1_zero n). apply sum1_ext; intros. rewrite delta_other by lia. ring.
Qed.
Lemma sum1_pick n k f : (1 <= k <= n)%nat -> sum1 n (fun i => delta i k * f i) = f k.
Proof.
  induction n; intros H; [lia |]. simpl. destruct (Nat.eq_dec k (S n)) as [-> | E].
  - rewrite sum1_pick_out by lia. rewrite delta_self; ring.
  - rewrite IHn by lia. rewrite delta_other by lia; ring.
Qed.

(** A certificate: what a sum is a linear combination of. *)
Inductive item_ := Lin (c : R) (m : nat -> R) | Pick (c : R) (k : nat) (m : nat -> R) | Cnt (c : R).
Definition point_ (t : item_) (i : nat) : R :=
  match t with Lin c m => c * m i | Pick c k m => c * (delta i k * m i) | Cnt c => c end.
Definition total_ (n : nat) (t : item_) : R :=
  match t with Lin c m => c * sum1 n m | Pick c k m => c * m k | Cnt c => c * INR n end.
Definition fits_ (n : nat) (t : item_) : Prop := match t with Pick _ k _ => (1 <= k <= n)%nat | _ => True end.
Fixpoint points_ (l : list item_) (i : nat) : R := match l with [] => 0 | t :: l => point_ t i + points_ l i end.
Fixpoint totals_ (n : nat) (l : list item_) : R := match l with [] => 0 | t :: l => total_ n t + totals_ n l end.
Fixpoint all_fit_ (n : nat) (l : list item_) : Prop := match l with [] => True | t :: l => fits_ n t /\ all_fit_ n l end.
Lemma sum_comb n f l : all_fit_ n l -> (forall i, (1 <= i <= n)%nat -> f i = points_ l i) -> sum1 n f = totals_ n l.
Proof.
  intros F H. rewrite (sum1_ext n f (points_ l) H). clear H. induction l as [| t l IH]; simpl.
  - apply sum1_zero.
  - simpl in F. destruct F as [F1 F2]. rewrite sum1_plus, IH by auto. f_equal. destruct t as [c m | c k m | c]; simpl.
    + apply (sum1_scal n c m).
    + etransitivity; [apply (sum1_scal n c (fun i => delta i k * m i)) | rewrite sum1_pick by auto; auto].
    + etransitivity; [apply (sum1_const n c) | ring].
Qed.

(* -- entries ---------------------------------------------------------------------------------------------- *)

Lemma upd_id z k : upd z k (z k) = z.
Proof. apply functional_extensionality; intros i. unfold upd. destruct (Nat.eq_dec i k); subst; auto. Qed.
Lemma upd2_id z k l : upd2 z k l (z k l) = z.
Proof.
  apply functional_extensionality; intros i; apply functional_extensionality; intros j. unfold upd2.
  destruct (Nat.eq_dec i k); subst; auto. destruct (Nat.eq_dec j l); subst; auto.
Qed.
Lemma upd3_id z k l m : upd3 z k l m (z k l m) = z.
Proof.
  apply functional_extensionality; intros i; apply functional_extensionality; intros j.
  apply functional_extensionality; intros h. unfold upd3.
  destruct (Nat.eq_dec i k); subst; auto. destruct (Nat.eq_dec j l); subst; auto. destruct (Nat.eq_dec h m); subst; auto.
Qed.
Ltac back := rewrite ?upd_id, ?upd2_id, ?upd3_id.
Lemma upd_at z k x : upd z k x k = x.
Proof. unfold upd. destruct (Nat.eq_dec k k); [auto | lia]. Qed.
Lemma upd_upd z k x y : upd (upd z k x) k y = upd z k y.
Proof. apply functional_extensionality; intros i. unfold upd. destruct (Nat.eq_dec i k); auto. Qed.

Ltac reals := match goal with |- @eq _ ?a ?b => change (@eq R a b) end.
Ltac rring := match goal with |- @eq _ ?a ?b => change (@eq R a b) end; ring.

(* -- derivatives ------------------------------------------------------------------------------------------ *)

Notation der f x l := (@is_derive R_AbsRing R_NormedModule f x l).
Lemma d_val f x l l' : der f x l -> l = l' -> der f x l'. Proof. intros H <-; auto. Qed.
Lemma d_const c x : der (fun _ => c) x 0. Proof. apply (is_derive_const (K := R_AbsRing) (V := R_NormedModule)). Qed.
Lemma d_id x : der (fun y => y) x 1. Proof. apply (is_derive_id (K := R_AbsRing)). Qed.
Lemma d_plus f g x a b : der f x a -> der g x b -> der (fun y => f y + g y) x (a + b).
Proof. intros; apply (is_derive_plus (K := R_AbsRing) (V := R_NormedModule)); auto. Qed.
Lemma d_opp f x a : der f x a -> der (fun y => - f y) x (- a).
Proof. intros; apply (is_derive_opp (K := R_AbsRing) (V := R_NormedModule)); auto. Qed.
Lemma d_minus f g x a b : der f x a -> der g x b -> der (fun y => f y - g y) x (a - b).
Proof. intros; apply (is_derive_minus (K := R_AbsRing) (V := R_NormedModule)); auto. Qed.
Lemma d_mult f g x a b : der f x a -> der g x b -> der (fun y => f y * g y) x (a * g x + f x * b).
Proof. intros; apply (is_derive_mult (K := R_AbsRing)); auto. intros; apply Rmult_comm. Qed.
Lemma d_scal_l c f x a : der f x a -> der (fun y => c * f y) x (c * a).
Proof. intros H; apply (d_val _ _ (0 * f x + c * a)); [apply (d_mult (fun _ => c) f); [apply d_const | auto] | rring]. Qed.
Lemma d_scal_r c f x a : der f x a -> der (fun y => f y * c) x (a * c).
Proof. intros H; apply (d_val _ _ (a * c + f x * 0)); [apply (d_mult f (fun _ => c)); [auto | apply d_const] | rring]. Qed.
Lemma d_comp f g x a b : der f (g x) a -> der g x b -> der (fun y => f (g y)) x (b * a).
Proof. intros; apply (is_derive_comp (K := R_AbsRing) (V := R_NormedModule) f g); auto. Qed.
Lemma d_exp f x a : der f x a -> der (fun y => exp (f y)) x (a * exp (f x)).
Proof. intros; apply (d_comp exp f); auto. apply is_derive_exp. Qed.
Lemma d_ln f x a : 0 < f x -> der f x a -> der (fun y => ln (f y)) x (a * / f x).
Proof. intros; apply (d_comp ln f); auto. apply is_derive_ln; auto. Qed.
Lemma d_inv f x a : f x <> 0 -> der f x a -> der (fun y => / f y) x (- a * / (f x * f x)).
Proof.
  intros N H. apply (d_val _ _ (- a / (f x) ^ 2)).
  - apply (is_derive_inv f x a); auto.
  - unfold Rdiv. simpl. rewrite Rmult_1_r. auto.
Qed.
Lemma d_pow n f x a : der f x a -> der (fun y => f y ^ n) x (INR n * f x ^ (pred n) * a).
Proof. intros H. apply (d_val _ _ (INR n * a * f x ^ pred n)); [apply (is_derive_pow f n x a); auto | rring]. Qed.
Lemma d_sq f x a : der f x a -> der (fun y => f y ^ 2) x (2 * f x * a).
Proof. intros H. apply (d_val _ _ (INR 2 * f x ^ pred 2 * a)); [apply d_pow; auto | simpl; rring]. Qed.
Lemma d_sqrt f x a : 0 < f x -> der f x a -> der (fun y => sqrt (f y)) x (a * / (2 * sqrt (f x))).
Proof.
  intros P H. apply (d_comp sqrt f); auto.
  apply (d_val _ _ (1 / (2 * sqrt (f x)))); [| unfold Rdiv; rring].
  apply (is_derive_sqrt (fun y => y) (f x) 1); [apply d_id | auto].
Qed.
Lemma d_sum n f df x :
  (forall i, (1 <= i <= n)%nat -> der (fun y => f y i) x (df i)) -> der (fun y => sum1 n (f y)) x (sum1 n df).
Proof.
  induction n; simpl; intros H; [apply d_const |].
  apply (d_plus (fun y => sum1 n (f y)) (fun y => f y (S n))); [apply IHn; intros; apply H; lia | apply H; lia].
Qed.
Lemma d_prod n f df x :
  (forall i, (1 <= i <= n)%nat -> der (fun y => f y i) x (df i)) -> (forall i, (1 <= i <= n)%nat -> f x i <> 0) ->
  der (fun y => prod1 n (f y)) x (prod1 n (f x) * sum1 n (fun i => df i * / f x i)).
Proof.
  induction n; simpl; intros H N; [apply (d_val _ _ 0); [apply d_const | rring] |].
  eapply d_val; [apply (d_mult (fun y => prod1 n (f y)) (fun y => f y (S n))); [apply IHn | apply H; lia] |];
    try (intros; first [apply H | apply N]; lia).
  match goal with |- @eq _ ?a ?b => change (@eq R a b) end. field. apply N; lia.
Qed.
Lemma d_upd z k i x : der (fun y => upd z k y i) x (delta i k).
Proof. unfold upd, delta; destruct (Nat.eq_dec i k); [apply d_id | apply d_const]. Qed.
Lemma d_upd2 z k l i j x : der (fun y => upd2 z k l y i j) x (delta i k * delta j l).
Proof.
  unfold upd2, delta; destruct (Nat.eq_dec i k), (Nat.eq_dec j l).
  - apply (d_val _ _ 1); [apply d_id | rring]. - apply (d_val _ _ 0); [apply d_const | rring].
  - apply (d_val _ _ 0); [apply d_const | rring]. - apply (d_val _ _ 0); [apply d_const | rring].
Qed.
Lemma d_upd3 z k l m i j h x : der (fun y => upd3 z k l m y i j h) x (delta i k * delta j l * delta h m).
Proof.
  unfold upd3, delta; destruct (Nat.eq_dec i k), (Nat.eq_dec j l), (Nat.eq_dec h m);
    first [apply (d_val _ _ 1); [apply d_id | rring] | apply (d_val _ _ 0); [apply d_const | rring]].
Qed.
Lemma d_fun (F : R -> R) f x a : ex_derive F (f x) -> der f x a -> der (fun y => F (f y)) x (a * Derive F (f x)).
Proof. intros E H. apply (d_comp F f); auto. apply Derive_correct; auto. Qed.
Lemma d_Derive f x a : der f x a -> Derive f x = a.
Proof. intros; apply is_derive_unique; auto. Qed.
Lemma d_second F g L x l :
  (forall y, der (F y) (g y) (L y)) -> der L x l -> der (fun y => Derive (F y) (g y)) x l.
Proof. intros H K. apply (is_derive_ext L); [| exact K]. intros y. symmetry. apply d_Derive. apply H. Qed.
Lemma d_ext_pos f g x l : 0 < x -> (forall y, 0 < y -> f y = g y) -> der g x l -> der f x l.
Proof.
  intros P E H. apply (is_derive_ext_loc g); auto. exists (mkposreal x P). intros y B. symmetry; apply E.
  change (Rabs (y - x) < x) in B. apply Rabs_def2 in B. lra.
Qed.
Lemma d_second_pos F g L x l :
  0 < x -> (forall y, 0 < y -> der (F y) (g y) (L y)) -> der L x l -> der (fun y => Derive (F y) (g y)) x l.
Proof. intros P H K. apply (d_ext_pos _ L); auto. intros y Y. apply d_Derive. apply H; exact Y. Qed.
Lemma d_near (f g : R -> R) (x a r : R) : 0 < r -> (forall h, Rabs h < r -> f (x + h) = g (x + h)) -> der g x a -> der f x a.
Proof.
  intros P E H. apply (is_derive_ext_loc g); auto. exists (mkposreal r P). intros y B.
  replace y with (x + (y - x)) by ring. symmetry; apply E. exact B.
Qed.
Lemma d_slope (f : R -> R) (x a r : R) : 0 < r -> (forall h, Rabs h < r -> h <> 0 -> f (x + h) - f x = a * h) -> der f x a.
Proof.
  intros P E. apply (d_near f (fun y => f x + a * (y - x)) x a r P).
  - intros h B. destruct (Req_dec h 0) as [Z | N].
    + subst h. replace (x + 0) with x by ring. lra.
    + specialize (E h B N). replace (x + h - x) with h by ring. lra.
  - apply (d_val _ _ (0 + a * (1 - 0))); [| rring]. apply (d_plus (fun _ => f x)); [apply d_const |].
    apply d_scal_l. apply (d_minus (fun y => y) (fun _ => x)); [apply d_id | apply d_const].
Qed.
Lemma above_slope (f : R -> R) (x a r : R) : 0 < r -> (forall h, Rabs h < r -> h > 0 -> f (x + h) - f x = a * h) -> slope_above f x a.
Proof.
  intros P E. unfold slope_above. apply (filterlim_ext_loc (fun _ => a)); [| apply filterlim_const].
  exists (mkposreal r P). intros h B N. assert (Rabs h < r) by (replace h with (h - 0) by ring; exact B).
  rewrite E by (auto; lra). field. lra.
Qed.
Lemma below_slope (f : R -> R) (x a r : R) : 0 < r -> (forall h, Rabs h < r -> h < 0 -> f (x + h) - f x = a * h) -> slope_below f x a.
Proof.
  intros P E. unfold slope_below. apply (filterlim_ext_loc (fun _ => a)); [| apply filterlim_const].
  exists (mkposreal r P). intros h B N. assert (Rabs h < r) by (replace h with (h - 0) by ring; exact B).
  rewrite E by (auto; lra). field. lra.
Qed.

(** A function that does not increase before a point and does not decrease after it has its minimum there. *)
Lemma minimum_at (f df : R -> R) (a x : R) : 0 < a -> 0 < x -> (forall t, 0 < t -> der f t (df t)) ->
  (forall t, 0 < t -> a <= t -> 0 <= df t) -> (forall t, 0 < t -> t <= a -> 0 <= - df t) -> f a <= f x.
Proof.
  intros A X D U L. destruct (MVT_gen f a x df) as [c [C E]].
  - intros t [T _]. apply D. apply Rlt_trans with (Rmin a x); [apply Rmin_glb_lt |]; auto.
  - intros t [T _]. apply derivable_continuous_pt. exists (df t). apply is_derive_Reals. apply D.
    apply Rlt_le_trans with (Rmin a x); [apply Rmin_glb_lt |]; auto.
  - enough (0 <= df c * (x - a)) by lra. revert C. unfold Rmin, Rmax. destruct (Rle_dec a x); intros [C1 C2].
    + apply Rmult_le_pos; [apply U |]; lra.
    + replace (df c * (x - a)) with (- df c * (a - x)) by ring. apply Rmult_le_pos; [apply L |]; lra.
Qed.

(* -- logarithms and exponentials -------------------------------------------------------------------------- *)

Lemma ln_div a b : 0 < a -> 0 < b -> ln (a / b) = ln a - ln b.
Proof. intros; unfold Rdiv. rewrite ln_mult by (auto; apply Rinv_0_lt_compat; auto). rewrite ln_Rinv by auto. ring. Qed.
Lemma ln_sqrt_ a : 0 < a -> ln (sqrt a) = 1 / 2 * ln a.
Proof.
  intros P. rewrite <- (sqrt_sqrt a) at 2 by lra. rewrite ln_mult by (apply sqrt_lt_R0; auto). lra.
Qed.
Lemma exp_opp a : exp (- a) = / exp a. Proof. apply exp_Ropp. Qed.
Lemma exp_minus a b : exp (a - b) = exp a * / exp b.
Proof. unfold Rminus; rewrite exp_plus, exp_Ropp; auto. Qed.
Lemma ln_pow n a : 0 < a -> ln (a ^ n) = INR n * ln a.
Proof.
  intros P. induction n; [simpl; rewrite ln_1; ring |]. rewrite S_INR. simpl. rewrite ln_mult by (auto; apply pow_lt; auto).
  rewrite IHn; ring.
Qed.
Lemma exp_INR n a : exp (INR n * a) = exp a ^ n.
Proof. induction n; [simpl; rewrite Rmult_0_l; apply exp_0 |]. rewrite S_INR, Rmult_plus_distr_r, exp_plus, IHn, Rmult_1_l. simpl; ring. Qed.
Lemma ln_prod1 n f : (forall i, (1 <= i <= n)%nat -> 0 < f i) -> ln (prod1 n f) = sum1 n (fun i => ln (f i)).
Proof.
  induction n; simpl; intros H; [apply ln_1 |]. rewrite ln_mult; [| apply prod1_pos; intros; apply H; lia | apply H; lia].
  rewrite IHn; auto. intros; apply H; lia.
Qed.
Lemma ln_strict x : 0 < x -> x <> 1 -> ln x < x - 1.
Proof.
  intros P N. assert (ln x <> 0) as L. { intros Z. apply N. rewrite <- (exp_ln x P), Z. apply exp_0. }
  pose proof (exp_ineq1 (ln x) L) as H. rewrite exp_ln in H by auto. lra.
Qed.
Lemma ln_bound x : 0 < x -> ln x <= x - 1.
Proof. intros P. pose proof (exp_ineq1_le (ln x)) as H. rewrite exp_ln in H by auto. lra. Qed.

(* -- tactics ---------------------------------------------------------------------------------------------- *)

(** An equation of terms of the same form, down to what the tactic shows. *)
Ltac under tac :=
  cbv beta;
  lazymatch goal with
  | |- ?a = ?a => reflexivity
  | |- sum1 _ _ = sum1 _ _ => apply sum1_ext; intros; under tac
  | |- _ + _ = _ + _ => apply (f_equal2 Rplus); under tac
  | |- _ * _ = _ * _ => apply (f_equal2 Rmult); under tac
  | |- - _ = - _ => apply (f_equal Ropp); under tac
  | |- / _ = / _ => apply (f_equal Rinv); under tac
  | |- _ => first [reflexivity | tac]
  end.
Lemma le_from l r l2 r2 : l <= l2 -> r2 <= r -> l2 <= r2 -> l <= r. Proof. lra. Qed.
Lemma ge_from l r l2 r2 : l2 <= l -> r <= r2 -> l2 >= r2 -> l >= r. Proof. lra. Qed.
Lemma Rinv_lt_0_ a : 0 < / a -> 0 < a.
Proof. intros H. rewrite <- (Rinv_involutive a); [apply Rinv_0_lt_compat; auto | intros Z; subst; rewrite Rinv_0 in H; lra]. Qed.
Ltac rng := first [assumption | lia
  | match goal with H : forall _ : nat, _ -> forall _ : nat, _ -> (1 <= _ <= _)%nat |- (1 <= _ <= _)%nat => apply H; rng end
  | match goal with H : forall _ : nat, _ -> (1 <= _ <= _)%nat |- (1 <= _ <= _)%nat => apply H; rng end].
Lemma Rlt_eq_r a b : a = b -> 0 < b -> 0 < a. Proof. lra. Qed.
Lemma Rlt_sq a : a <> 0 -> 0 < a ^ 2. Proof. intros; nra. Qed.
Lemma opp_neg a : a < 0 -> 0 < - a. Proof. lra. Qed.
Lemma neg_neg a b : a < 0 -> b < 0 -> 0 < a * b. Proof. intros; nra. Qed.
Lemma pos_neg a b : 0 < a -> b < 0 -> a * b < 0. Proof. intros; nra. Qed.
Lemma neg_pos a b : a < 0 -> 0 < b -> a * b < 0. Proof. intros; nra. Qed.
Lemma pos_back a b : 0 < b -> 0 < a + (b + - a). Proof. lra. Qed.
(** Positivity, by the form of what is to be positive. *)
Ltac pos :=
  lazymatch goal with
  | |- 0 < exp _ => apply exp_pos
  | |- 0 < sqrt _ => apply sqrt_lt_R0; pos
  | |- 0 < sum1 _ _ => first [assumption | apply sum1_pos; [rng | let i := fresh "i" in let H := fresh "H" in intros i H; cbv beta; pos]]
  | |- 0 < prod1 _ _ => apply prod1_pos; let i := fresh "i" in let H := fresh "H" in intros i H; cbv beta; pos
  | |- 0 < INR _ => apply lt_0_INR; lia
  | |- 0 < ?a * ?b => first [solve [auto with real] | solve [apply Rmult_lt_0_compat; pos] | solve [known] | solve [apply neg_neg; neg] | nra]
  | |- 0 < ?a / ?b => first [solve [known] | apply Rdiv_lt_0_compat; pos]
  | |- 0 < / ?a => apply Rinv_0_lt_compat; pos
  | |- 0 < ?a ^ 2 => first [solve [apply pow_lt; pos] | apply Rlt_sq; lra]
  | |- 0 < ?a ^ _ => apply pow_lt; pos
  | |- 0 < - _ => first [solve [known] | apply opp_neg; neg]
  | |- 0 < Rmax 1 _ => apply Rlt_le_trans with 1; [lra | apply Rmax_l]
  | |- 0 < ?a + (_ + - ?a) => first [solve [apply pos_back; pos] | solve [known] | lra]
  | |- 0 < ?a + ?b => first [solve [known] | solve [apply Rplus_lt_0_compat; pos] | solve [apply Rplus_lt_le_0_compat; [pos | nonneg]]
                            | solve [apply Rplus_le_lt_0_compat; [nonneg | pos]] | lra]
  | |- 0 < upd _ _ _ _ => first [solve [known] | unfold upd; destruct (Nat.eq_dec _ _); pos]
  | |- 0 < upd2 _ _ _ _ _ _ => first [solve [known] | unfold upd2; repeat destruct (Nat.eq_dec _ _); pos]
  | |- 0 < upd3 _ _ _ _ _ _ _ _ => first [solve [known] | unfold upd3; repeat destruct (Nat.eq_dec _ _); pos]
  | |- 0 < _ => known
  end
with neg :=
  lazymatch goal with
  | |- ?a * ?b < 0 => first [solve [apply pos_neg; [pos | neg]] | apply neg_pos; [neg | pos]]
  | |- / _ < 0 => apply Rinv_lt_0_compat; neg
  | |- _ => lra
  end
with known :=
  first [assumption | lra
        | match goal with H : forall _ : nat, _ -> 0 < _ |- _ => apply H; rng end
        | match goal with H : forall _ _ : nat, _ -> _ -> 0 < _ |- _ => apply H; rng end
        | match goal with H : forall _ _ _ : nat, _ -> _ -> _ -> 0 < _ |- _ => apply H; rng end
        | match goal with H : forall _ : R, 0 < _ |- _ => apply H end
        | match goal with H : forall _ _ : R, 0 < _ |- _ => apply H end
        | solve [match goal with H : _ |- _ => apply H; rng end]]
with nonneg :=
  lazymatch goal with
  | |- 0 <= delta ?i ?j => apply delta_bounds
  | |- 0 <= 1 + - delta ?i ?j => apply delta_bounds
  | |- 0 <= sum1 _ _ => apply sum1_nonneg; let i := fresh "i" in let H := fresh "H" in intros i H; cbv beta; nonneg
  | |- 0 <= ?a * ?a => apply Rle_0_sqr
  | |- 0 <= ?a ^ 2 => apply pow2_ge_0
  | |- 0 <= ?a ^ _ => first [assumption | solve [apply pow_le; nonneg] | left; pos]
  | |- 0 <= ?a * ?b => first [solve [apply Rmult_le_pos; nonneg] | nra]
  | |- 0 <= ?a / ?b => apply Rmult_le_pos; [nonneg | left; apply Rinv_0_lt_compat; pos]
  | |- 0 <= ?a + ?b => first [solve [apply Rplus_le_le_0_compat; nonneg] | lra]
  | |- 0 <= / ?a => left; apply Rinv_0_lt_compat; pos
  | |- 0 <= sqrt _ => apply sqrt_pos
  | |- 0 <= Rabs _ => apply Rabs_pos
  | |- 0 <= INR _ => apply pos_INR
  | |- 0 <= _ => first [assumption | lra | left; pos
      | match goal with H : forall _ : nat, _ -> 0 <= _ |- _ => apply H; rng end
      | match goal with H : forall _ : nat, _ -> forall _ : nat, _ -> 0 <= _ |- _ => apply H; rng end
      | match goal with H : _ |- 0 <= ?x => let K := fresh in assert (K : x = 0 \/ x = 1) by (apply H; rng); destruct K; lra end]
  end.
Lemma nz_pos x : 0 < x -> x <> 0. Proof. lra. Qed.
Ltac nz :=
  lazymatch goal with
  | |- _ /\ _ => split; nz
  | |- ?a * ?b <> 0 => apply Rmult_integral_contrapositive_currified; nz
  | |- / ?a <> 0 => apply Rinv_neq_0_compat; nz
  | |- ?a ^ _ <> 0 => apply pow_nonzero; nz
  | |- - ?a <> 0 => apply Ropp_neq_0_compat; nz
  | |- _ => first [assumption | apply not_eq_sym; assumption | solve [apply nz_pos; pos] | lra | nra | nz_product]
  end
with nz_product := (* what multiplies out to a product *)
  let Z := fresh "Z" in intro Z; ring_simplify in Z;
  lazymatch type of Z with
  | - _ * _ = 0 => idtac | _ * _ = 0 => idtac | - _ = 0 => idtac
  end; revert Z; lazymatch goal with |- ?a = 0 -> False => change (a <> 0) end; nz.
Ltac deltas :=
  rewrite ?delta_self in *;
  repeat match goal with |- context [delta ?i ?j] =>
    let E := fresh "E" in destruct (Nat.eq_dec i j) as [E | E];
    [first [subst i | subst j | rewrite E in *]; rewrite ?delta_self in *
    | rewrite ?(delta_other i j E), ?(delta_other j i (not_eq_sym E)) in *] end.
(** Cases of minima, maxima, absolute values and conditions, then arithmetic. *)
Ltac split1 :=
  match goal with
  | |- context [Rle_dec ?a ?b] => destruct (Rle_dec a b)
  | |- context [Rlt_dec ?a ?b] => destruct (Rlt_dec a b)
  | |- context [Req_EM_T ?a ?b] => destruct (Req_EM_T a b)
  | |- context [Rcase_abs ?a] => destruct (Rcase_abs a)
  | H : context [Rle_dec ?a ?b] |- _ => destruct (Rle_dec a b)
  | H : context [Rlt_dec ?a ?b] |- _ => destruct (Rlt_dec a b)
  | H : context [Req_EM_T ?a ?b] |- _ => destruct (Req_EM_T a b)
  | H : context [Rcase_abs ?a] |- _ => destruct (Rcase_abs a)
  end.
Ltac splits := unfold Rltb, Rleb, Reqb, Rmin, Rmax, Rabs in *; cbv beta;
  repeat (split1; cbv beta iota; cbn [andb orb negb] in *; try (exfalso; first [lra | congruence])).
(** Masks, by their two values. *)
Ltac mask_value H x :=
  let E := fresh "E" in assert (E : x = 0 \/ x = 1) by (apply H; rng); destruct E as [E | E]; rewrite E in *.
Ltac mask_cases :=
  progress repeat match goal with
  | H : forall i : nat, _ -> ?f i = 0 \/ ?f i = 1 |- context [?f ?k] => mask_value H (f k)
  | H : forall i : nat, _ -> forall j : nat, _ -> ?f i j = 0 \/ ?f i j = 1 |- context [?f ?k ?l] => mask_value H (f k l)
  | H : forall i : nat, _ -> forall j : nat, _ -> forall h : nat, _ -> ?f i j h = 0 \/ ?f i j h = 1 |- context [?f ?k ?l ?m] =>
      mask_value H (f k l m)
  | H : ?x = 0 \/ ?x = 1 |- context [?x] => destruct H; subst x
  end.
(** At least 1: sizes and their products. *)
Ltac ge1 :=
  lazymatch goal with
  | |- 1 <= INR _ => apply (le_INR 1); lia
  | |- 1 <= ?a * ?b => let P := fresh in let K := fresh in
      assert (P : 1 <= a) by ge1; assert (K : 1 <= b) by ge1; nra
  | |- _ => first [assumption | lra]
  end.
Ltac fin :=
  first [reflexivity | ring | solve [field; nz]
        | solve [progress (rewrite ?Rmax_right by ge1); first [ring | field; nz]]
        | solve [deltas; first [reflexivity | ring | solve [field; nz] | lia]]
        | solve [lazymatch goal with |- context [if _ then _ else _] => splits; first [ring | field; nz] end]
        | solve [mask_cases; first [ring | field; nz]]].

(** An equation from another, whose left side is a product of terms or one that decides a case. *)
Ltac no_sign := match goal with H : ~ 0 < ?x, K : ~ ?x < 0 |- _ => let Z := fresh "Z" in assert (Z : x = 0) by lra; rewrite Z end.
Ltac by_equation H := solve [ring [H] | field [H]; nz | rewrite H; splits; first [lra | ring | field; nz | no_sign; ring]].

(** The factors of what divides, known to be positive, and their inverses, for nonlinear arithmetic. *)
Ltac facts :=
  repeat match goal with
  | |- context [/ ?a] => lazymatch goal with H : 0 < / a |- _ => fail | _ =>
       let P := fresh "P" in assert (P : 0 < / a) by (first [assumption | pos]); let M := fresh "M" in assert (M : a * / a = 1) by (apply Rinv_r; apply nz_pos; apply Rinv_lt_0_; assumption) end
  | K : context [/ ?a] |- _ => lazymatch goal with H : 0 < / a |- _ => fail | _ =>
       let P := fresh "P" in assert (P : 0 < / a) by (first [assumption | pos]); let M := fresh "M" in assert (M : a * / a = 1) by (apply Rinv_r; apply nz_pos; apply Rinv_lt_0_; assumption) end
  end;
  repeat match goal with
  | H : forall i : nat, (1 <= i <= ?n)%nat -> 0 < ?f i |- context [?f ?k] => lazymatch goal with K : 0 < f k |- _ => fail | _ => assert (0 < f k) by (apply H; rng) end
  | H : forall i : nat, _ -> forall j : nat, _ -> 0 < ?f i j |- context [?f ?k ?l] => lazymatch goal with K : 0 < f k l |- _ => fail | _ => assert (0 < f k l) by (apply H; rng) end
  end.

(** A fraction c / b is positive and its divisor has a sign, so what stands above the line has that sign. *)
Ltac positive_above a b H :=
  match goal with |- 0 < ?c => replace c with (a * b) by (field; nz); apply Rmult_lt_0_compat; [exact H | pos] end.
Ltac above_sign c a b H :=
  first [assert (0 < c) by (positive_above a b H) | assert (0 < - c) by (positive_above a (- b) H) | idtac].
Ltac lastpos := solve [facts; nra].
(** A root as a rational multiple of the product of others. *)
Lemma root_0 v c : v = c ^ 2 -> sqrt v = Rabs c.
Proof. intros ->. rewrite <- sqrt_Rsqr_abs. unfold Rsqr. f_equal. ring. Qed.
Lemma root_1 v c w : 0 <= w -> v = c ^ 2 * w -> sqrt v = Rabs c * sqrt w.
Proof. intros W ->. rewrite sqrt_mult by (auto; apply pow2_ge_0). f_equal. apply root_0; auto. Qed.
Lemma root_2 v c w x : 0 <= w -> 0 <= x -> v = c ^ 2 * w * x -> sqrt v = Rabs c * sqrt w * sqrt x.
Proof. intros W X E. rewrite Rmult_assoc, <- sqrt_mult, <- Rmult_assoc in * by auto. apply root_1; [apply Rmult_le_pos; auto | rewrite E; ring]. Qed.
Lemma root_3 v c w x y : 0 <= w -> 0 <= x -> 0 <= y -> v = c ^ 2 * w * x * y -> sqrt v = Rabs c * sqrt w * sqrt x * sqrt y.
Proof.
  intros W X Y E. rewrite Rmult_assoc, <- (sqrt_mult x y) by auto. apply root_2; auto; [apply Rmult_le_pos; auto | rewrite E; ring].
Qed.
Lemma solved a b c d t : a = b -> c - d = t * (a - b) -> c = d. Proof. intros -> H. apply Rminus_diag_uniq. rewrite H. ring. Qed.
Lemma over_root c e s k : 0 < s -> 0 <= e -> 0 <= k -> c ^ 2 <= k ^ 2 * s ^ 2 -> Rabs (c * / (e + s)) <= k.
Proof.
  intros S E K H. rewrite Rabs_mult, (Rabs_pos_eq (/ (e + s))) by (left; apply Rinv_0_lt_compat; lra).
  apply (Rmult_le_reg_r (e + s)); [lra |]. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
  apply Rle_trans with (k * s); [| nra]. rewrite <- (Rabs_pos_eq (k * s)) by nra. apply Rsqr_le_abs_0. unfold Rsqr. nra.
Qed.
Ltac root_multiple :=
  let c := first [solve [nonneg] | lastpos] in
  first [apply root_3; [c | c | c | ] | apply root_2; [c | c | ] | apply root_1; [c | ] | apply root_0].
Ltac signed_multiple H :=
  match type of H with context [Rabs ?c] =>
    first [rewrite (Rabs_pos_eq c) in H by (first [solve [nonneg] | lastpos | lra])
          | rewrite (Rabs_left1 c) in H by (left; neg)] end.
Ltac root_nz := first [solve [nz] | repeat split; first [solve [nz] | apply nz_pos; apply sqrt_lt_R0; lastpos | apply nz_pos; lastpos]].
Ltac sc l := (* the sum is the combination l *)
  etransitivity; [apply (sum_comb _ _ l); [simpl; repeat split; rng | ] | ].

(** What the derivative of a recursion is called, for all depths and places: for the tactic that differentiates. *)
Definition known_slope (P : Prop) : Prop := P.
(** A term that grows with its parts, down to what the tactic shows. *)
Ltac grows tac :=
  cbv beta;
  lazymatch goal with
  | |- ?a <= ?a => apply Rle_refl
  | |- sum1 _ _ <= sum1 _ _ => apply sum1_le; let i := fresh "i" in let H := fresh "H" in intros i H; grows tac
  | |- _ + _ <= _ + _ => apply Rplus_le_compat; grows tac
  | |- - _ <= - _ => apply Ropp_le_contravar; grows tac
  | |- ?c * _ <= ?c * _ => apply Rmult_le_compat_l; [nonneg | grows tac]
  | |- _ * ?c <= _ * ?c => apply Rmult_le_compat_r; [nonneg | grows tac]
  | |- _ => tac
  end.
(** Derivatives, by the form of the function; the result is as [deriv] in the generator says it. *)
Ltac const_of f := let a := eval cbv beta in (f 0) in let b := eval cbv beta in (f 1) in let _ := match goal with _ => constr_eq a b end in a.
Ltac dv :=
  lazymatch goal with
  | |- der ?f _ _ => first [match goal with H : der _ _ _ |- _ => exact H | H : forall _ : nat, der _ _ _ |- _ => exact (H _)
                                       | H : forall _ _ : nat, der _ _ _ |- _ => exact (H _ _) end | let c := const_of f in apply (d_const c) | dv1]
  end
with dv1 :=
  lazymatch goal with
  | |- der (fun y => y) _ _ => apply d_id
  | |- der (fun y => upd ?z ?k y ?i) _ _ => apply d_upd
  | |- der (fun y => upd2 ?z ?k ?l y ?i ?j) _ _ => apply d_upd2
  | |- der (fun y => upd3 ?z ?k ?l ?m y ?i ?j ?h) _ _ => apply d_upd3
  | |- der (fun y => - @?f y) _ _ => apply (d_opp f); dv
  | |- der (fun y => @?f y * @?g y) _ _ =>
      first [let c := const_of f in apply (d_scal_l c g); dv
            | let c := const_of g in apply (d_scal_r c f); dv | apply (d_mult f g); dv]
  | |- der (fun y => @?f y + @?g y) _ _ => apply (d_plus f g); dv
  | |- der (fun y => / @?f y) _ _ => apply (d_inv f); [cbv beta; back; nz | dv]
  | |- der (fun y => @?f y ^ 2) _ _ => apply (d_sq f); dv
  | |- der (fun y => @?f y ^ ?n) _ _ => apply (d_pow n f); dv
  | |- der (fun y => exp (@?f y)) _ _ => apply (d_exp f); dv
  | |- der (fun y => ln (@?f y)) _ _ => apply (d_ln f); [cbv beta; back; pos | dv]
  | |- der (fun y => sqrt (@?f y)) _ _ => apply (d_sqrt f); [cbv beta; back; pos | dv]
  | |- der (fun y => prod1 _ (@?f y)) _ _ =>
      eapply (d_prod _ f);
        [let i := fresh "i" in let H := fresh "H" in intros i H; cbv beta; dv
        | let i := fresh "i" in let H := fresh "H" in intros i H; cbv beta; back; nz]
  | |- der (fun y => Derive (@?F y) (@?g y)) _ _ =>
      first [eapply (d_second F g); [intros; eapply d_val; [cbv beta; dv | reals; cbv beta; back; reflexivity] | cbv beta; dv]
            | eapply (d_second_pos F g);
                [solve [pos] | intros; eapply d_val; [cbv beta; dv | reals; cbv beta; back; reflexivity] | cbv beta; dv]]
  | |- der (fun y => sum1 _ (@?f y)) _ _ =>
      eapply (d_sum _ f); let i := fresh "i" in let H := fresh "H" in intros i H; cbv beta; dv
  | |- der (fun y => ?F _ _ (@?f y)) _ _ => first [eapply (d_fun (F _ _) f); [solve [match goal with H : context [F] |- _ => apply H end] | dv] | by_depth]
  | |- der (fun y => ?F _ (@?f y)) _ _ => first [eapply (d_fun (F _) f); [solve [match goal with H : context [F] |- _ => apply H end] | dv] | by_depth]
  | |- der (fun y => ?F (@?f y)) _ _ => first [apply (d_fun F f); [solve [match goal with H : context [F] |- _ => apply H end] | dv] | by_depth]
  | |- der _ _ _ => by_depth
  end
with by_depth :=
  match goal with H : known_slope _ |- _ => let K := fresh "K" in pose proof H as K; red in K; apply K; rng end.
(** The derivative of a term of a sum in an entry: that of the term at the entry, and 0 of every other. *)
Ltac places := intros; unfold upd, upd2, upd3; repeat match goal with |- context [Nat.eq_dec ?a ?b] => destruct (Nat.eq_dec a b); try congruence end; reflexivity.
Ltac by_entry H :=
  match type of H with is_derive ?f _ ?l =>
    deltas; first
    [ apply (d_val _ _ l); [first [exact H | apply (is_derive_ext f); [places | exact H]] | reals; ring]
    | match goal with |- is_derive ?g ?x _ =>
        apply (d_val _ _ 0); [apply (is_derive_ext (fun _ => g x)); [places | apply d_const] | reals; ring] end ]
  end.
(** The derivative of a composition, that of the outer function being known at the value of the inner one. *)
Ltac composed inside outer inner :=
  match type of outer with is_derive ?F _ ?a => match type of inner with is_derive _ ?x _ =>
    let O := fresh "O" in assert (O : der F (inside x) a) by (cbv beta; back; exact outer);
    eapply d_val; [exact (d_comp F inside x a _ O inner) | ] end end.
Ltac der_by := eapply d_val; [dv | reals; cbv beta; back; first [reflexivity | cbn [INR pred pow]; ring]].

Ltac expc := repeat first [rewrite exp_plus | rewrite exp_opp | rewrite exp_INR | rewrite exp_ln by pos | rewrite exp_0].
Ltac lnc := repeat first [rewrite ln_prod1 by (intros; cbv beta; pos) | rewrite ln_mult by pos | rewrite ln_Rinv by pos | rewrite ln_pow by pos | rewrite ln_sqrt_ by pos | rewrite ln_exp | rewrite ln_1
                         | rewrite ln_div by pos]; cbn [INR].
(** Each entry of a family is positive, as facts. *)
Ltac entries :=
  repeat match goal with
  | H : forall i : nat, (1 <= i <= _)%nat -> 0 < ?f i |- context [?f ?k] =>
      lazymatch goal with K : 0 < f k |- _ => fail | _ => assert (0 < f k) by (apply H; lia) end
  | H : forall i : nat, (1 <= i <= _)%nat -> 0 < ?f i, L : context [?f ?k] |- _ =>
      lazymatch type of L with 0 < _ => fail | _ => lazymatch goal with K : 0 < f k |- _ => fail | _ => assert (0 < f k) by (apply H; lia) end end
  end.
Ltac zeros := repeat match goal with x : R |- _ => first [assert (x = 0) by lra; subst x | assert (x = 1) by lra; subst x] end.
Ltac signs := match goal with
  | x : R |- _ => destruct (Rtotal_order x 0) as [? | [? | ?]]; nra
  | x : R, y : R |- _ => destruct (Rtotal_order x 0) as [? | [? | ?]], (Rtotal_order y 0) as [? | [? | ?]]; nra
  end.
Ltac arith := first [lra | nra | solve [zeros; first [lra | nra]] | signs | (exfalso; first [lra | nra])].
Ltac goals := cbv beta; intros; repeat match goal with |- _ /\ _ => split | |- _ <-> _ => split; intros | |- ~ _ => intro end.
Ltac hyps := repeat match goal with
  | H : _ /\ _ |- _ => destruct H
  | H : _ \/ _ |- _ => destruct H
  | H : ?a <> ?b |- _ => let H1 := fresh in destruct (Rdichotomy a b H) as [H1 | H1]; clear H end.
Ltac alts := first [lra | nra | (left; alts) | (right; alts) | (split; alts) | arith].
Ltac masks := repeat match goal with
  | H : forall i : nat, _ -> ?f i = 0 \/ ?f i = 1 |- context [?f ?k] => lazymatch goal with K : f k = 0 \/ f k = 1 |- _ => fail | _ => assert (f k = 0 \/ f k = 1) by (apply H; rng) end
  | H : forall i : nat, _ -> forall j : nat, _ -> ?f i j = 0 \/ ?f i j = 1 |- context [?f ?k ?l] => lazymatch goal with K : f k l = 0 \/ f k l = 1 |- _ => fail | _ => assert (f k l = 0 \/ f k l = 1) by (apply H; rng) end
  | H : forall i : nat, _ -> 0 <= ?f i |- context [?f ?k] => lazymatch goal with K : 0 <= f k |- _ => fail | _ => assert (0 <= f k) by (apply H; rng) end
  | H : forall i : nat, _ -> ?f i <= 1 |- context [?f ?k] => lazymatch goal with K : f k <= 1 |- _ => fail | _ => assert (f k <= 1) by (apply H; rng) end
  | H : forall i : nat, _ -> forall j : nat, _ -> 0 <= ?f i j |- context [?f ?k ?l] => lazymatch goal with K : 0 <= f k l |- _ => fail | _ => assert (0 <= f k l) by (apply H; rng) end
  | H : forall i : nat, _ -> forall j : nat, _ -> ?f i j <= 1 |- context [?f ?k ?l] => lazymatch goal with K : f k l <= 1 |- _ => fail | _ => assert (f k l <= 1) by (apply H; rng) end
  end.
Lemma gt_over_positive x p : 0 < p -> (x * p > 0 <-> x > 0). Proof. intros; split; intros; nra. Qed.
Lemma lt_over_positive x p : 0 < p -> (x * p < 0 <-> x < 0). Proof. intros; split; intros; nra. Qed.
Lemma gt_by_positive x p : 0 < p -> (p * x > 0 <-> x > 0). Proof. intros; split; intros; nra. Qed.
Lemma lt_by_positive x p : 0 < p -> (p * x < 0 <-> x < 0). Proof. intros; split; intros; nra. Qed.
(** The sign of a product without its positive factors. *)
Ltac cancel_positive :=
  repeat match goal with
  | |- context [?x * ?p > 0] => first [rewrite (gt_over_positive x p) by pos | rewrite (gt_by_positive p x) by pos]
  | |- context [?x * ?p < 0] => first [rewrite (lt_over_positive x p) by pos | rewrite (lt_by_positive p x) by pos]
  end.
(** What is assumed of every index, of those at hand; products in the same order where a common factor is not negative. *)
Ltac instances := repeat match goal with
  | H : forall i : nat, (1 <= i <= ?n)%nat -> @?P i, K : (1 <= ?k <= ?n)%nat |- _ =>
      let Q := eval cbv beta in (P k) in
      lazymatch goal with _ : Q |- _ => fail | _ => assert Q by (exact (H k K)) end
  end.
Ltac monotone := first [assumption | lra
  | lazymatch goal with
    | |- _ * ?c <= _ * ?c => apply Rmult_le_compat_r; [nonneg | monotone]
    | |- ?c * _ <= ?c * _ => apply Rmult_le_compat_l; [nonneg | monotone]
    end | nra].
Lemma le_by_factor l r a b c : 0 <= c -> l = a * c -> r = b * c -> a <= b -> l <= r.
Proof. intros P -> -> H. apply Rmult_le_compat_r; auto. Qed.
Lemma ge_by_factor l r a b c : 0 <= c -> l = a * c -> r = b * c -> a >= b -> l >= r.
Proof. intros P -> -> H. apply Rle_ge, Rmult_le_compat_r; [auto | apply Rge_le; auto]. Qed.
Ltac sign := lazymatch goal with
  | |- 0 <= _ => nonneg | |- _ >= 0 => apply Rle_ge; nonneg | |- 0 < _ => pos | |- _ > 0 => apply Rlt_gt; pos end.
Ltac smt := try progress cancel_positive; goals; first [solve [sign]
  | solve [lazymatch goal with |- @eq R _ _ => first [ring | field; nz | rewrite ?Rmax_right by ge1; field; nz] end]
  | solve [try apply Rle_ge; lazymatch goal with |- _ <= _ => instances; monotone end] | masks; splits; goals; first [lra | (hyps; first [lra | nra | arith | alts])]
  | solve [masks; deltas; splits; goals; first [lra | (hyps; first [lra | nra])]]].
Lemma Ropp_lt_cancel_ a b h : - Rmin a b < h -> - a < h /\ - b < h.
Proof. unfold Rmin; destruct (Rle_dec a b); lra. Qed.
Ltac nearby :=
  repeat match goal with
  | H : Rabs ?h < _ |- _ => apply Rabs_def2 in H; destruct H
  | H : ?h < Rmin ?a ?b |- _ => apply Rmin_Rgt in H; destruct H
  | H : Rmin ?a ?b > ?h |- _ => apply Rmin_Rgt in H; destruct H
  | H : - Rmin ?a ?b < ?h |- _ => apply Ropp_lt_cancel_ in H; destruct H
  end.
Lemma Rmin_scal a x y : 0 <= a -> Rmin (a * x) (a * y) = a * Rmin x y.
Proof. intros; unfold Rmin; destruct (Rle_dec _ _), (Rle_dec _ _); nra. Qed.
Lemma Rmax_scal a x y : 0 <= a -> Rmax (a * x) (a * y) = a * Rmax x y. Proof. intros; apply RmaxRmult; auto. Qed.
Lemma Rmin_neg a x y : a < 0 -> Rmin (a * x) (a * y) = a * Rmax x y.
Proof. intros; unfold Rmin, Rmax; destruct (Rle_dec _ _), (Rle_dec _ _); nra. Qed.
Lemma Rmax_neg a x y : a < 0 -> Rmax (a * x) (a * y) = a * Rmin x y.
Proof. intros; unfold Rmin, Rmax; destruct (Rle_dec _ _), (Rle_dec _ _); nra. Qed.
(** The sign of a common factor of what is compared, so that the comparison is linear. *)
Ltac scale := repeat first [rewrite Rmin_scal by assumption | rewrite Rmin_neg by assumption
                           | rewrite Rmax_scal by assumption | rewrite Rmax_neg by assumption].
Ltac by_sign :=
  match goal with
  | |- context [Rmin (?a * _) (?a * _)] => destruct (Rle_or_lt 0 a); scale
  | |- context [Rmax (?a * _) (?a * _)] => destruct (Rle_or_lt 0 a); scale
  | |- _ => idtac
  end.
(** Comparisons that are decided by what is known, one case at a time where they are not. *)
Lemma Rltb_yes a b : a < b -> Rltb a b = true. Proof. intros; unfold Rltb; destruct (Rlt_dec a b); [auto | lra]. Qed.
Lemma Rltb_no a b : b <= a -> Rltb a b = false. Proof. intros; unfold Rltb; destruct (Rlt_dec a b); [lra | auto]. Qed.
Lemma Rleb_yes a b : a <= b -> Rleb a b = true. Proof. intros; unfold Rleb; destruct (Rle_dec a b); [auto | lra]. Qed.
Lemma Rleb_no a b : b < a -> Rleb a b = false. Proof. intros; unfold Rleb; destruct (Rle_dec a b); [lra | auto]. Qed.
Ltac decided :=
  match goal with
  | |- context [Rmin ?a ?b] => first [rewrite (Rmin_left a b) by lra | rewrite (Rmin_right a b) by lra]
  | |- context [Rmax ?a ?b] => first [rewrite (Rmax_left a b) by lra | rewrite (Rmax_right a b) by lra]
  | |- context [Rltb ?a ?b] => first [rewrite (Rltb_yes a b) by lra | rewrite (Rltb_no a b) by lra]
  | |- context [Rleb ?a ?b] => first [rewrite (Rleb_yes a b) by lra | rewrite (Rleb_no a b) by lra]
  | |- context [Rabs ?a] => first [rewrite (Rabs_pos_eq a) by lra | rewrite (Rabs_left a) by lra]
  | H : context [Rabs ?a] |- _ => first [rewrite (Rabs_pos_eq a) in H by lra | rewrite (Rabs_left a) in H by lra]
  end.
Ltac simple_number a := lazymatch a with context [Rmin] => fail | context [Rmax] => fail | context [Rabs] => fail | _ => idtac end.
Ltac one_case :=
  match goal with
  | |- context [Rmin ?a ?b] => simple_number a; simple_number b; destruct (Rle_or_lt a b)
  | |- context [Rmax ?a ?b] => simple_number a; simple_number b; destruct (Rle_or_lt a b)
  | |- context [Rltb ?a ?b] => simple_number a; simple_number b; destruct (Rle_or_lt b a)
  | |- context [Rleb ?a ?b] => simple_number a; simple_number b; destruct (Rle_or_lt a b)
  end.
Ltac apart := repeat match goal with H : ?a <> ?b |- _ => let K := fresh "K" in destruct (Rdichotomy a b H) as [K | K]; clear H end.
Ltac case_by_case := repeat (first [decided | one_case]; cbn [andb orb negb]).
(** Difference quotients: exact, case by case. *)
Ltac steps := cbv beta; nearby;
  first [solve [by_sign; apart; case_by_case; first [ring | lra | nra | solve [zeros; first [lra | nra]]]]
        | by_sign; splits; first [lra | nra | solve [zeros; first [lra | nra]] | signs | (exfalso; signs)]].
Lemma div_neq_1 p q : p <> 0 -> q <> p -> q * / p <> 1.
Proof. intros N D Z. apply D. apply (Rmult_eq_reg_r (/ p)); [rewrite Z; field; auto | apply Rinv_neq_0_compat; auto]. Qed.
Lemma div_neq_1' p q : p <> 0 -> q <> p -> / p * q <> 1.
Proof. intros; rewrite Rmult_comm; apply div_neq_1; auto. Qed.
Ltac upd_pos := intros; unfold upd, upd2, upd3; repeat destruct Nat.eq_dec; first [assumption | solve [pos]].
Ltac neq1 := let Z := fresh "Z" in intro Z; apply (f_equal ln) in Z;
  repeat first [rewrite ln_mult in Z by pos | rewrite ln_Rinv in Z by pos | rewrite ln_exp in Z]; rewrite ?ln_1 in Z; lra.
Lemma rel_conv (op : R -> R -> Prop) l l2 r r2 : l = l2 -> r = r2 -> op l r -> op l2 r2.
Proof. intros <- <-; auto. Qed.
Ltac side := cbv beta; first [assumption | rng | solve [pos] | solve [nonneg] | nz
  | solve [intros; cbv beta; first [pos | nonneg | assumption]] | solve [neq1] | solve [(apply div_neq_1 || apply div_neq_1'); [nz | first [assumption | apply not_eq_sym; assumption | lra]]] | solve [splits; first [lra | nra]] | lra | nra
  | match goal with H : forall _ : nat, (1 <= _ <= _)%nat -> _ |- _ => apply H; rng end].
Ltac feed H tac :=
  lazymatch type of H with ?A -> _ =>
    let P := fresh "P" in assert (P : A) by tac; specialize (H P); clear P end.

Ltac expc0 := repeat first [rewrite Rminus_eq_0 | rewrite Rplus_opp_r | rewrite Rplus_opp_l | rewrite Rmult_0_l | rewrite exp_0 | rewrite Rmult_1_l | rewrite exp_ln by pos].
Ltac feeds H := repeat feed H ltac:(first [assumption | lia | (intros; match goal with K : _ |- _ => apply K; lia end)]).


(* -- functions that rise ---------------------------------------------------------------------------------- *)

Lemma rises_from f df a x :
  a <= x -> (forall y, a <= y -> der f y (df y)) -> (forall y, a < y -> 0 <= df y) -> f a <= f x.
Proof.
  intros L D S. destruct (Req_dec a x) as [-> | N]; [apply Rle_refl |].
  destruct (MVT_cor2 f df a x) as [c [E [C _]]]; [lra | intros c [C _]; apply is_derive_Reals, D, C |].
  pose proof (S c C). pose proof (Rmult_le_pos (df c) (x - a)). lra.
Qed.

(* -- contradictions among inequalities -------------------------------------------------------------------- *)

Lemma known_ge l r d : l >= r -> l + - r = d -> 0 <= d. Proof. lra. Qed.
Lemma known_gt l r d : l > r -> l + - r = d -> 0 < d. Proof. lra. Qed.
Lemma known_le l r d : l <= r -> r + - l = d -> 0 <= d. Proof. lra. Qed.
Lemma known_lt l r d : l < r -> r + - l = d -> 0 < d. Proof. lra. Qed.
Lemma known_eq l r d : l = r -> l + - r = d -> d = 0. Proof. lra. Qed.
Lemma term_gt c m t : 0 < c -> 0 < m -> 0 < t -> 0 < c * (m * t).
Proof. intros; repeat apply Rmult_lt_0_compat; auto. Qed.
Lemma term_ge c m t : 0 < c -> 0 < m -> 0 <= t -> 0 <= c * (m * t).
Proof. intros; repeat apply Rmult_le_pos; auto; lra. Qed.
Lemma term_eq c m t : t = 0 -> 0 <= c * (m * t).
Proof. intros ->. rewrite !Rmult_0_r. apply Rle_refl. Qed.
Lemma contradicts e : 0 < e -> e = 0 -> False. Proof. lra. Qed.
Lemma one_le_INR n : (1 <= n)%nat -> 1 <= INR n. Proof. apply (le_INR 1). Qed.
Lemma min_right a b : b < a -> Rmin a b = b. Proof. intros; apply Rmin_right; lra. Qed.
Lemma max_left a b : b < a -> Rmax a b = a. Proof. intros; apply Rmax_left; lra. Qed.

(* -- terms have values ------------------------------------------------------------------------------------ *)

Lemma near_positive x (P : R -> Prop) : 0 < x -> (forall y, 0 < y -> P y) -> locally x P.
Proof.
  intros H K. exists (mkposreal x H). intros y B. apply K. change (Rabs (y - x) < x) in B. apply Rabs_def2 in B. lra.
Qed.
Lemma near_pos (f : R -> R) x : ex_derive f x -> 0 < f x -> locally x (fun y => 0 < f y).
Proof.
  intros E H. apply (ex_derive_continuous (K := R_AbsRing) (V := R_NormedModule)) in E.
  apply (E (fun z => 0 < z)). apply (near_positive (f x)); auto.
Qed.
Lemma near_nz (f : R -> R) x : ex_derive f x -> f x <> 0 -> locally x (fun y => f y <> 0).
Proof.
  intros E H. destruct (Rdichotomy _ _ H) as [L | L].
  - apply (filter_imp (fun y => 0 < - f y)); [intros y; lra |].
    apply (near_pos (fun y => - f y)); [| lra]. destruct E as [l E]. exists (- l). apply d_opp. exact E.
  - apply (filter_imp (fun y => 0 < f y)); [intros y; lra |]. apply near_pos; [auto | lra].
Qed.
Lemma near_nonneg (f : R -> R) x : ex_derive f x -> 0 < f x -> locally x (fun y => 0 <= f y).
Proof. intros E H. apply (filter_imp (fun y => 0 < f y)); [intros y; lra |]. apply near_pos; auto. Qed.
Lemma near_all x n (P : R -> nat -> Prop) :
  (forall i, (1 <= i <= n)%nat -> locally x (fun y => P y i)) -> locally x (fun y => forall i, (1 <= i <= n)%nat -> P y i).
Proof.
  induction n; intros H; [apply filter_forall; intros y i; lia |].
  apply (filter_imp (fun y => (forall i, (1 <= i <= n)%nat -> P y i) /\ P y (S n))).
  - intros y [A B] i I. destruct (Nat.eq_dec i (S n)) as [-> | N]; [auto | apply A; lia].
  - apply filter_and; [apply IHn; intros; apply H; lia | apply H; lia].
Qed.
Lemma aside_right x P : locally x P -> at_right x P.
Proof. intros H. unfold at_right, within. apply (filter_imp P); auto. Qed.
Lemma aside_left x P : locally x P -> at_left x P.
Proof. intros H. unfold at_left, within. apply (filter_imp P); auto. Qed.

(** The propositions by which a statement says that its terms have values. *)
Ltac val :=
  cbv beta zeta;
  lazymatch goal with
  | |- True => exact I
  | |- (_ <= _ <= _)%nat => rng
  | |- _ /\ _ => split; val
  | |- forall _, _ => let i := fresh "i" in intro i; val
  | |- locally _ _ => near
  | |- at_right _ _ => first [solve [apply filter_forall; intros; val] | apply aside_right; near]
  | |- at_left _ _ => first [solve [apply filter_forall; intros; val] | apply aside_left; near]
  | |- ex_derive _ _ => first [assumption | eexists; dv]
  | |- (_ <= _)%nat => lia
  | |- match ?n with O => _ | S _ => _ end => destruct n; val
  | |- if ?b then _ else _ => let E := fresh "E" in destruct b eqn:E; val
  | |- _ <> 0 => first [assumption | solve [nz] | solve [side] | solve [splits; nz]]
  | |- 0 < _ => first [solve [pos] | solve [side] | solve [splits; pos]]
  | |- 0 <= _ => first [solve [nonneg] | solve [side]]
  | |- _ => first [solve [match goal with H : _ |- _ => apply H; val end] | side]
  end
with near :=
  cbv beta zeta;
  lazymatch goal with
  | |- locally _ (fun y => _ /\ _) => apply filter_and; near
  | |- locally _ (fun y => forall i, _) => first [solve [apply filter_forall; intros; val] | solve [apply near_all; intros; near] | near1]
  | |- _ => near1
  end
with near1 :=
  first
  [ solve [apply filter_forall; intros; val]
  | solve [apply near_positive; [solve [pos] | intros; val]]
  | lazymatch goal with
    | |- locally _ (fun y => 0 < @?f y) => apply (near_pos f); [eexists; dv | cbv beta; back; val]
    | |- locally _ (fun y => 0 <= @?f y) => apply (near_nonneg f); [eexists; dv | cbv beta; back; val]
    | |- locally _ (fun y => @?f y <> 0) => apply (near_nz f); [eexists; dv | cbv beta; back; val]
    end ].
