//! Files: bytes from columns and back. Pure: nothing here waits or knows where bytes are kept.

pub mod spans;
