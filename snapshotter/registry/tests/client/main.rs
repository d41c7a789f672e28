//! The client against real and faulty registries. `support` has both; the real one is Debian's
//! `docker-registry`, and a test that cannot start it fails.

#[cfg(test)]
mod support;

#[cfg(test)]
mod authentication;
#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod pulling;
#[cfg(test)]
mod pushing;
#[cfg(test)]
mod transport_security;
