//! Mistakes on purpose. Each stands where the simulation hands something to the product's code or takes it from there, so
//! none can be in the product.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Nodes are given up however many are lost at once.
    NoBrake,
    /// A node takes what is older than what it has.
    OldFence,
    /// Replicas go before their successors answer.
    StopBeforeStart,
    /// As many may be missing as there are.
    BudgetIgnored,
    /// A node takes a change of a set that it does not have.
    GapIgnored,
    /// A node runs what may run in one place only without a lease.
    LeaseIgnored,
    /// Whoever was told to stop is taken for stopped.
    StopAssumed,
    /// A control plane that was restored grants leases at once.
    RestoreForgets,
}

impl Mutant {
    pub(crate) const ALL: [Self; 8] = [
        Self::NoBrake,
        Self::OldFence,
        Self::StopBeforeStart,
        Self::BudgetIgnored,
        Self::GapIgnored,
        Self::LeaseIgnored,
        Self::StopAssumed,
        Self::RestoreForgets,
    ];
}
