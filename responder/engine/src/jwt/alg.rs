//! Algorithms.
#[derive(Debug, Clone, Copy)]
pub enum Alg {
    Hs256,
}
impl Alg {
    pub fn as_str(self) -> &'static str {
        "HS256"
    }
}
