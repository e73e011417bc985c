//! Several nodes, one cluster: real processes on loopback that are killed, stopped and cut off from each other and from
//! what they stand on while people use them, and lose nothing.

mod crowds;
