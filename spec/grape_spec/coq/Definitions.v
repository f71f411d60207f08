(** What the statements of the claims speak of, beside Coq's real numbers and Coquelicot's derivatives.
    A reader of a statement needs these definitions and no more; nothing here is proved. *)
From Coq Require Import Reals Arith.
From Coquelicot Require Import Coquelicot.
Open Scope R_scope.

(** The sum f 1 + … + f n; 0 for n = 0. *)
Fixpoint sum1 (n : nat) (f : nat -> R) : R := match n with O => 0 | S m => sum1 m f + f (S m) end.

(** The product f 1 · … · f n; 1 for n = 0. *)
Fixpoint prod1 (n : nat) (f : nat -> R) : R := match n with O => 1 | S m => prod1 m f * f (S m) end.

(** Kronecker's delta: 1 where the indices are equal, else 0. *)
Definition delta (i j : nat) : R := if Nat.eq_dec i j then 1 else 0.

(** The family f with the value x at one position: what varies in a derivative in an entry. *)
Definition upd (f : nat -> R) (k : nat) (x : R) : nat -> R := fun i => if Nat.eq_dec i k then x else f i.
Definition upd2 (f : nat -> nat -> R) (k l : nat) (x : R) : nat -> nat -> R :=
  fun i j => if Nat.eq_dec i k then (if Nat.eq_dec j l then x else f i j) else f i j.
Definition upd3 (f : nat -> nat -> nat -> R) (k l m : nat) (x : R) : nat -> nat -> nat -> R :=
  fun i j h => if Nat.eq_dec i k then (if Nat.eq_dec j l then (if Nat.eq_dec h m then x else f i j h) else f i j h)
    else f i j h.

(** The tests x < y, x ≤ y and x = y, for the conditions of cases. *)
Definition Rltb (x y : R) : bool := if Rlt_dec x y then true else false.
Definition Rleb (x y : R) : bool := if Rle_dec x y then true else false.
Definition Reqb (x y : R) : bool := if Req_EM_T x y then true else false.

(** The difference quotient of f at x tends to l as the step tends to 0 from above, or from below. *)
Definition slope_above (f : R -> R) (x l : R) : Prop :=
  filterlim (fun h => (f (x + h) - f x) / h) (at_right 0) (locally l).
Definition slope_below (f : R -> R) (x l : R) : Prop :=
  filterlim (fun h => (f (x + h) - f x) / h) (at_left 0) (locally l).

(** There is such a slope. *)
Definition has_slope_above (f : R -> R) (x : R) : Prop := exists l, slope_above f x l.
Definition has_slope_below (f : R -> R) (x : R) : Prop := exists l, slope_below f x l.
