"""`captchabench doctor`: describes this machine and checks that every recogniser works on its devices."""
