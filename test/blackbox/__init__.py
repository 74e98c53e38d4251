"""The program from outside: real processes on loopback, real trouble, and the exchange's own record as the truth."""
