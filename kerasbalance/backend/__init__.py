"""What is special to one backend or private to Keras, one file a subject."""
