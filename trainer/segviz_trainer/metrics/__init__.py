"""How well a mask agrees with the truth: Dice, HD95 and NSD."""
