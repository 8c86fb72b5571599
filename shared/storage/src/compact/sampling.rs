//! Which sampling policy holds for which tenant.

use std::fmt;
use std::str::FromStr;

use model::TenantId;
use model::sampling::Policy;
use model::sampling::policy::PolicyError;

/// Sampling policies by tenant. Empty: everything stays.
///
/// As text: policies separated by `|`, each in the form of [`Policy`], or a tenant's behind its name and `/`:
/// `errors;rest=10%;after=6h|team-a/rest=100%;after=0s`. A tenant's own policy counts, else the one without a tenant.
/// So no attribute of a policy has a `|`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    policies: Vec<(Option<TenantId>, Policy)>,
}

/// Why a text says no sampling policies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSampling {
    /// One of them is none.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Two are for the same tenants.
    #[error("two sampling policies are for {0}")]
    Repeated(String),
}

impl Sampling {
    /// The policy for a tenant's traces, if it has one.
    pub fn of(&self, tenant: &TenantId) -> Option<&Policy> {
        let of = |wanted: Option<&TenantId>| {
            self.policies.iter().find(|(of, _)| of.as_ref() == wanted).map(|(_, policy)| policy)
        };
        of(Some(tenant)).or_else(|| of(None))
    }
}

impl FromStr for Sampling {
    type Err = InvalidSampling;

    fn from_str(text: &str) -> Result<Self, InvalidSampling> {
        let mut policies: Vec<(Option<TenantId>, Policy)> = Vec::new();
        for text in text.split('|').map(str::trim).filter(|text| !text.is_empty()) {
            // What stands before the first slash is a tenant if it can be one: no part of a policy with a slash can.
            let named = text.split_once('/').and_then(|(name, rest)| Some((name.parse().ok()?, rest)));
            let (tenant, policy) = named.map_or((None, text), |(tenant, rest)| (Some(tenant), rest));
            if policies.iter().any(|(other, _)| *other == tenant) {
                let whom = tenant.map_or("all tenants".to_owned(), |tenant| format!("tenant {tenant}"));
                return Err(InvalidSampling::Repeated(whom));
            }
            policies.push((tenant, policy.parse()?));
        }
        Ok(Self { policies })
    }
}

impl fmt::Display for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (tenant, policy)) in self.policies.iter().enumerate() {
            let tenant = tenant.as_ref().map_or(String::new(), |tenant| format!("{tenant}/"));
            write!(f, "{}{tenant}{policy}", if at == 0 { "" } else { "|" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_own_policy_counts() {
        let text = "attribute=http.route=/pay;rest=10%;after=6h | team-a/rest=100%;after=0s";
        let sampling: Sampling = text.parse().expect(text);
        let percent =
            |tenant: &str| sampling.of(&tenant.parse().expect("a tenant")).map(|policy| policy.rest_percent);
        assert_eq!((percent("default"), percent("team-a")), (Some(10.0), Some(100.0)));
        assert_eq!(sampling.to_string().parse(), Ok(sampling));
        let only: Sampling = "team-a/rest=1%;after=1h".parse().expect("a policy");
        assert!(only.of(&TenantId::default_tenant()).is_none());
        assert_eq!("".parse(), Ok(Sampling::default()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<Sampling>().expect_err(text).to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("rest=1%;after=1h|rest=2%;after=1h", "for all tenants");
        check("a/rest=1%;after=1h|a/rest=2%;after=1h", "tenant a");
        check("a/rest=1%", "needs after");
        check("a b/rest=1%;after=1h", "a b/rest");
    }
}
