"""Accuracy of a kmodel, and of the float model beside it, over labelled pictures, on all cores or a cluster."""
