//! The cluster from outside: real connections on loopback, real Redis servers, faults by a proxy.

mod ground;
mod link;
mod member;
mod operator;
mod strangers;
