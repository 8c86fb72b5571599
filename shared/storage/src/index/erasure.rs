//! Requests to erase, and what became of them.
//!
//! ```text
//! erasure = u8 version 1  section tenant  u8 signals  u8 target  section key  section value
//!           u64 LE requested, seconds since the epoch  u64 LE done (0: pending)  u64 LE removed
//! signals = 1: traces   2: metrics   4: logs
//! target  = 0: a trace, value is its id in hex   1: an attribute   2: a service, value is its name
//! section = varint length  bytes
//! ```

use std::fmt;

use model::{Signal, TenantId, TraceId};

use super::item::{read_section, write_section};
use crate::block::parquet::Invalid;
use crate::block::parquet::thrift::take;

const VERSION: u8 = 1;

/// What is to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErasureTarget {
    /// What belongs to a trace: its spans, its log records, and exemplars that name it.
    Trace(TraceId),
    /// What has an attribute or a label with this value, written as text.
    Attribute {
        /// The key.
        key: String,
        /// The value as text.
        value: String,
    },
    /// What comes from a service.
    Service(String),
}

/// A request to erase all that matches and was stored before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Whose.
    pub tenant: TenantId,
    /// In which signals.
    pub signals: Vec<Signal>,
    /// What.
    pub target: ErasureTarget,
    /// When that was requested, seconds since the epoch.
    pub requested_at_s: u64,
    /// When it was done; `None` while it is pending.
    pub done_at_s: Option<u64>,
    /// Spans, samples, exemplars and log records that were removed so far.
    pub n_removed: u64,
}

impl Erasure {
    /// The sort key: the same request of one second is one request.
    pub(crate) fn sort(&self) -> String {
        let asked = Self { done_at_s: None, n_removed: 0, ..self.clone() }.encode();
        let hash = blake3::hash(&asked).to_hex();
        format!("{:016x}#{}", self.requested_at_s, &hash[..16])
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        write_section(&mut out, self.tenant.as_str().as_bytes());
        out.push(self.signals.iter().fold(0, |bits, signal| bits | bit(*signal)));
        let (kind, key, value) = match &self.target {
            ErasureTarget::Trace(id) => (0, "", id.to_string()),
            ErasureTarget::Attribute { key, value } => (1, key.as_str(), value.clone()),
            ErasureTarget::Service(service) => (2, "", service.clone()),
        };
        out.push(kind);
        write_section(&mut out, key.as_bytes());
        write_section(&mut out, value.as_bytes());
        for number in [self.requested_at_s, self.done_at_s.unwrap_or(0), self.n_removed] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out
    }

    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, Invalid> {
        let bytes = &mut bytes;
        if take(bytes, 1)?[0] != VERSION {
            return Err(Invalid("request to erase has an unknown version"));
        }
        let tenant = text(bytes)?.parse().map_err(|_| Invalid("request to erase has no tenant"))?;
        let bits = take(bytes, 1)?[0];
        let kind = take(bytes, 1)?[0];
        let (key, value) = (text(bytes)?, text(bytes)?);
        let target = match kind {
            0 => {
                ErasureTarget::Trace(value.parse().map_err(|_| Invalid("request to erase has no trace id"))?)
            }
            1 => ErasureTarget::Attribute { key, value },
            2 => ErasureTarget::Service(value),
            _ => return Err(Invalid("request to erase has an unknown target")),
        };
        let (requested_at_s, done_at_s, n_removed) = (number(bytes)?, number(bytes)?, number(bytes)?);
        Ok(Self {
            tenant,
            signals: Signal::ALL.into_iter().filter(|signal| bits & bit(*signal) != 0).collect(),
            target,
            requested_at_s,
            done_at_s: (done_at_s > 0).then_some(done_at_s),
            n_removed,
        })
    }
}

impl fmt::Display for ErasureTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trace(id) => write!(f, "trace {id}"),
            Self::Attribute { key, value } => write!(f, "attribute {key}={value}"),
            Self::Service(service) => write!(f, "service {service}"),
        }
    }
}

fn bit(signal: Signal) -> u8 {
    match signal {
        Signal::Traces => 1,
        Signal::Metrics => 2,
        Signal::Logs => 4,
    }
}

fn text(bytes: &mut &[u8]) -> Result<String, Invalid> {
    String::from_utf8(read_section(bytes)?.to_vec()).map_err(|_| Invalid("text is not UTF-8"))
}

fn number(bytes: &mut &[u8]) -> Result<u64, Invalid> {
    Ok(u64::from_le_bytes(take(bytes, 8)?.try_into().expect("invariant: as many taken")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back() {
        let targets = [
            ErasureTarget::Trace(TraceId([7; 16])),
            ErasureTarget::Attribute { key: "user.id".to_owned(), value: "ü=1".to_owned() },
            ErasureTarget::Service("shop".to_owned()),
        ];
        for target in targets {
            let pending = Erasure {
                tenant: TenantId::default_tenant(),
                signals: vec![Signal::Traces, Signal::Logs],
                target,
                requested_at_s: 5,
                done_at_s: None,
                n_removed: 0,
            };
            let done = Erasure { done_at_s: Some(9), n_removed: 3, ..pending.clone() };
            for erasure in [&pending, &done] {
                let bytes = erasure.encode();
                assert_eq!(Erasure::parse(&bytes).as_ref(), Ok(erasure));
                assert!((0..bytes.len()).all(|end| Erasure::parse(&bytes[..end]).is_err()));
            }
            assert_eq!(pending.sort(), done.sort());
        }
    }
}
