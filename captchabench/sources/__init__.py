"""Where images come from: archives, Kaggle, drawn stand-ins. Encoded images and their paths come out."""
