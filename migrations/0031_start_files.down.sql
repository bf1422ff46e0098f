DROP TABLE start_file_sets;
DROP TABLE start_files;
