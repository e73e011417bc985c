//! What was read of a frame, or of an event, that is not whole yet.
//!
//! Bytes are kept of that alone: ten thousand idle readers must cost the client next to nothing.

/// The bytes do not follow the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The bytes between two reads.
#[derive(Debug, Default)]
pub struct Remainder(Vec<u8>);

impl Remainder {
    /// Has all that is there parsed, and keeps what `parse` did not use.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut parse: impl FnMut(&[u8]) -> Result<usize, Malformed>,
    ) -> Result<(), Malformed> {
        if self.0.is_empty() {
            let used = parse(bytes)?;
            self.0.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.0.extend_from_slice(bytes);
        let used = parse(&self.0)?;
        self.0.drain(..used);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        Ok(())
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
